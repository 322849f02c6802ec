// Messages that must pass.

export interface Good {
  name: string
  bytes: string
}

export const request = (line: string, ...fields: string[]): string =>
  `${line}\r\n${fields.map((f) => `${f}\r\n`).join('')}\r\n`
export const get = (...fields: string[]): string => request('GET / HTTP/1.1', 'Host: a', ...fields)
export const post = (...fields: string[]): string => request('POST / HTTP/1.1', 'Host: a', ...fields)
export const chunked = (body: string): string => post('Transfer-Encoding: chunked') + body

export const goodRequests: Good[] = [
  { name: 'plain get', bytes: get() },
  { name: 'get with headers', bytes: get('User-Agent: curl/8', 'Accept: */*', 'X-Empty:', 'X-Blank: \t ') },
  { name: 'value with inner blanks and obs-text', bytes: get('X-A: a  b\tc \xe9\xff  ') },
  { name: 'no space behind the colon', bytes: get('X-A:b') },
  { name: 'content-length body', bytes: post('Content-Length: 5') + 'hello' },
  { name: 'content-length 0', bytes: post('Content-Length: 0') },
  { name: 'chunked body', bytes: chunked('5\r\nhello\r\nA\r\n0123456789\r\n0\r\n\r\n') },
  { name: 'chunked with extensions', bytes: chunked('5;a=b;c;d="q\\"x"\r\nhello\r\n0;last\r\n\r\n') },
  { name: 'chunked with trailers', bytes: chunked('3\r\nabc\r\n0\r\nX-Sum: 1\r\nX-B:\r\n\r\n') },
  { name: 'chunked in upper case', bytes: post('TRANSFER-ENCODING: Chunked') + '0\r\n\r\n' },
  { name: 'two pipelined', bytes: get() + post('Content-Length: 2') + 'ok' },
  { name: 'three pipelined with chunked', bytes: chunked('1\r\nx\r\n0\r\n\r\n') + get() + get() },
  { name: 'one empty line before', bytes: `\r\n${get()}` },
  { name: 'http/1.0 without host', bytes: request('GET /x HTTP/1.0') },
  { name: 'http/1.0 keep-alive', bytes: request('GET /x HTTP/1.0', 'Connection: keep-alive', 'Host: a') },
  { name: 'connection close', bytes: get('Connection: close') },
  { name: 'connection list', bytes: get('Connection: keep-alive, X-Hop', 'X-Hop: 1') },
  {
    name: 'query and reserved characters',
    bytes: request('GET /a/b;c=1?x[]=1&y={}|^`\\ HTTP/1.1', 'Host: a'),
  },
  { name: 'host with port', bytes: request('GET / HTTP/1.1', 'Host: WEB.default.mesh:8080') },
  { name: 'host is IPv6', bytes: request('GET / HTTP/1.1', 'Host: [fd00::1]:8080') },
  { name: 'asterisk', bytes: request('OPTIONS * HTTP/1.1', 'Host: a') },
  { name: 'websocket upgrade', bytes: get('Connection: Upgrade', 'Upgrade: websocket') },
  { name: 'expect', bytes: post('Expect: 100-continue', 'Content-Length: 2') + 'ok' },
  { name: 'connect', bytes: request('CONNECT a:443 HTTP/1.1', 'Host: a:443') },
  { name: 'm-search', bytes: request('M-SEARCH / HTTP/1.1', 'Host: a') },
]

export interface Answer extends Good {
  requestMethod?: string
}

export const goodResponses: Answer[] = [
  { name: 'content-length', bytes: 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok' },
  { name: 'chunked', bytes: 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n' },
  { name: 'until close', bytes: 'HTTP/1.1 200 OK\r\nServer: x\r\n\r\nok and more' },
  { name: 'without reason', bytes: 'HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n' },
  { name: 'empty reason', bytes: 'HTTP/1.1 404 \r\nContent-Length: 0\r\n\r\n' },
  { name: 'to HEAD', bytes: 'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n', requestMethod: 'HEAD' },
  { name: '204', bytes: 'HTTP/1.1 204 No Content\r\n\r\n' },
  { name: '304 with a length', bytes: 'HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n' },
  {
    name: '100 and then 200',
    bytes: 'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx',
  },
  { name: 'http/1.0', bytes: 'HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx' },
]
