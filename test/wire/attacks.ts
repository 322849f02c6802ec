// Messages that must be refused, each with its fault and, where it has one, the name of its class of attack.
import { chunked, get, post, request } from './corpus.ts'
import type { Answer, Good } from './corpus.ts'

export interface Bad extends Good {
  fault: string
  status: number
}

function bad(name: string, fault: string, bytes: string, status: number = 400): Bad {
  return { name, bytes, fault, status }
}

/** Where does a message end: lengths, codings, chunks, line ends. */
const framing: Bad[] = [
  bad(
    'smuggling CL+TE',
    'length_and_coding',
    post('Content-Length: 4', 'Transfer-Encoding: chunked') + '0\r\n\r\n',
  ),
  bad(
    'smuggling TE+CL',
    'length_and_coding',
    post('Transfer-Encoding: chunked', 'Content-Length: 4') + '0\r\n\r\n',
  ),
  bad(
    'smuggling two different Content-Length',
    'duplicate_content_length',
    post('Content-Length: 4', 'Content-Length: 5') + 'hello',
  ),
  bad(
    'smuggling two equal Content-Length',
    'duplicate_content_length',
    post('Content-Length: 5', 'Content-Length: 5') + 'hello',
  ),
  bad('smuggling Content-Length list', 'content_length', post('Content-Length: 5, 5') + 'hello'),
  bad('CVE-2023-40225 empty Content-Length', 'content_length', post('Content-Length:')),
  bad(
    'CVE-2021-40346 Content-Length overflow',
    'content_length',
    post('Content-Length: 18446744073709551621') + 'hello',
  ),
  bad('Content-Length beyond 2^53', 'content_length', post('Content-Length: 9007199254740993')),
  bad('Content-Length with sign', 'content_length', post('Content-Length: +5') + 'hello'),
  bad('Content-Length negative', 'content_length', post('Content-Length: -1')),
  bad('Content-Length hexadecimal', 'content_length', post('Content-Length: 0x5') + 'hello'),
  bad('Content-Length with inner space', 'content_length', post('Content-Length: 1 0')),
  bad('CVE-2021-22959 space before the colon', 'name', post('Content-Length : 5') + 'hello'),
  bad('tab before the colon', 'name', post('Transfer-Encoding\t: chunked') + '0\r\n\r\n'),
  bad('CVE-2022-32214 header ended by bare LF', 'bare_lf', 'GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n'),
  bad('head ended by bare LF', 'bare_lf', 'GET / HTTP/1.1\r\nHost: a\r\n\n'),
  bad('request line ended by bare LF', 'bare_lf', 'GET / HTTP/1.1\nHost: a\r\n\r\n'),
  bad('CVE-2022-35256 bare CR ends the header', 'bare_cr', 'GET / HTTP/1.1\r\nHost: a\rX: y\r\n\r\n'),
  bad('bare CR in the empty line', 'bare_cr', 'GET / HTTP/1.1\r\nHost: a\r\n\rX\r\n\r\n'),
  bad(
    'CVE-2022-32215 folded Transfer-Encoding',
    'fold',
    post('Transfer-Encoding: chunked\r\n , identity') + '0\r\n\r\n',
  ),
  bad('obs-fold', 'fold', get('X-A: a\r\n b')),
  bad('first header line begins with a space', 'fold', 'GET / HTTP/1.1\r\n Host: a\r\n\r\n'),
  bad('CVE-2023-25725 empty header name', 'empty_name', post(': x', 'Content-Length: 5') + 'hello'),
  bad('line without a colon', 'name', get('nocolon')),
  bad('header name with a bracket', 'name', get('X(a): b')),
  bad('header name with NUL', 'name', get('X\0: b')),
  bad('header name with obs-text', 'name', get('X\xe9: b')),
  bad('NUL in a value', 'value', get('X: a\0b')),
  bad('control byte in a value', 'value', get('X: a\x01b')),
  bad('DEL in a value', 'value', get('X: a\x7fb')),
  bad('TE chunked twice', 'transfer_coding', post('Transfer-Encoding: chunked, chunked') + '0\r\n\r\n'),
  bad(
    'TE in two lines',
    'duplicate_transfer_coding',
    post('Transfer-Encoding: chunked', 'Transfer-Encoding: identity') + '0\r\n\r\n',
  ),
  bad(
    'TE identity then chunked',
    'transfer_coding',
    post('Transfer-Encoding: identity, chunked') + '0\r\n\r\n',
  ),
  bad('TE gzip', 'unknown_coding', post('Transfer-Encoding: gzip') + '0\r\n\r\n', 501),
  bad('TE xchunked', 'unknown_coding', post('Transfer-Encoding: xchunked') + '0\r\n\r\n', 501),
  bad('TE with vertical tab', 'value', post('Transfer-Encoding: \x0bchunked') + '0\r\n\r\n'),
  bad('TE quoted', 'transfer_coding', post('Transfer-Encoding: "chunked"') + '0\r\n\r\n'),
  bad('TE empty', 'transfer_coding', post('Transfer-Encoding:') + '0\r\n\r\n'),
  bad(
    'TE with HTTP/1.0',
    'coding_on_old_version',
    request('POST / HTTP/1.0', 'Host: a', 'Transfer-Encoding: chunked') + '0\r\n\r\n',
  ),
  bad('chunk extension with CR', 'bare_cr', chunked('5;a\rb\r\nhello\r\n0\r\n\r\n')),
  bad('CVE-2021-22960 chunk extension with LF', 'bare_lf', chunked('5;a\nb\r\nhello\r\n0\r\n\r\n')),
  bad(
    'chunk extension too long (CVE-2024-22019)',
    'chunk_line',
    chunked(`5;${'a'.repeat(2000)}\r\nhello\r\n0\r\n\r\n`),
  ),
  bad(
    'chunk extension flood over many chunks',
    'chunk_overhead',
    chunked(`1;${'a'.repeat(500)}\r\nx\r\n`.repeat(40) + '0\r\n\r\n'),
  ),
  bad('chunk extension without name', 'chunk_extension', chunked('5;\r\nhello\r\n0\r\n\r\n')),
  bad('space behind the chunk size', 'chunk_size', chunked('5 \r\nhello\r\n0\r\n\r\n')),
  bad('chunk size overflow', 'chunk_overflow', chunked('10000000000000005\r\nhello\r\n0\r\n\r\n'), 413),
  bad('chunk size with 0x', 'chunk_size', chunked('0x5\r\nhello\r\n0\r\n\r\n')),
  bad('chunk size empty', 'chunk_size', chunked('\r\nhello\r\n0\r\n\r\n')),
  bad('chunk size negative', 'chunk_size', chunked('-5\r\nhello\r\n0\r\n\r\n')),
  bad('chunk size line ended by LF', 'bare_lf', chunked('5\nhello\r\n0\r\n\r\n')),
  bad('chunk data longer than its size', 'chunk_size', chunked('5\r\nhelloX\r\n0\r\n\r\n')),
  bad('chunk data ended by LF', 'chunk_size', chunked('5\r\nhello\n0\r\n\r\n')),
  bad('chunk data ended by CR', 'bare_cr', chunked('5\r\nhello\r0\r\n\r\n')),
  bad('last chunk ended by LF', 'bare_lf', chunked('0\r\n\n')),
  bad('trailer with space before the colon', 'trailer', chunked('0\r\nX : a\r\n\r\n')),
  bad('trailer folded', 'fold', chunked('0\r\nX: a\r\n b\r\n\r\n')),
  bad('trailer with NUL', 'trailer', chunked('0\r\nX: a\0\r\n\r\n')),
  bad('trailer with a length', 'forbidden_trailer', chunked('0\r\nContent-Length: 5\r\n\r\n')),
  bad('trailer with credentials', 'forbidden_trailer', chunked('0\r\nA: b\r\nauthorization: x\r\n\r\n')),
  bad('trailer with an identity', 'forbidden_trailer', chunked('0\r\nX_Forwarded_Client-Cert: x\r\n\r\n')),
  bad('trailer too large', 'trailer_too_large', chunked(`0\r\nX: ${'a'.repeat(9000)}\r\n\r\n`), 431),
]

/** Who is asked for what: host, target, method, version, upgrades, sizes. */
const meaning: Bad[] = [
  bad('no Host on 1.1', 'missing_host', request('GET / HTTP/1.1', 'X: a')),
  bad('two Host', 'duplicate_host', get('Host: b')),
  bad('two equal Host', 'duplicate_host', get('Host: a')),
  bad('Host empty', 'host', request('GET / HTTP/1.1', 'Host:')),
  bad('Host list', 'host', request('GET / HTTP/1.1', 'Host: a, b')),
  bad('Host with userinfo', 'host', request('GET / HTTP/1.1', 'Host: a@b')),
  bad('Host with path', 'host', request('GET / HTTP/1.1', 'Host: a/b')),
  bad('Host with bad port', 'host', request('GET / HTTP/1.1', 'Host: a:80x')),
  bad('Host with port 65536', 'host', request('GET / HTTP/1.1', 'Host: a:65536')),
  bad(
    'CVE-2021-39242 absolute-form with another Host',
    'host_mismatch',
    request('GET http://b/ HTTP/1.1', 'Host: a'),
  ),
  bad('absolute-form with userinfo', 'target', request('GET http://u@a/ HTTP/1.1', 'Host: a')),
  bad('absolute-form of another scheme', 'target', request('GET ftp://a/ HTTP/1.1', 'Host: a')),
  bad('CVE-2021-39156 fragment in the target', 'target', request('GET /a#b HTTP/1.1', 'Host: a')),
  bad('backslash in the path', 'target', request('GET /a\\..\\b HTTP/1.1', 'Host: a')),
  bad('target relative', 'target', request('GET a HTTP/1.1', 'Host: a')),
  bad('target empty', 'target', request('GET  HTTP/1.1', 'Host: a')),
  bad('target with NUL', 'target', request('GET /\0 HTTP/1.1', 'Host: a')),
  bad('target with obs-text', 'target', request('GET /\xe9 HTTP/1.1', 'Host: a')),
  bad('target with tab', 'target', request('GET /\ta HTTP/1.1', 'Host: a')),
  bad('target with space', 'version', request('GET /a b HTTP/1.1', 'Host: a')),
  bad('asterisk with GET', 'target', request('GET * HTTP/1.1', 'Host: a')),
  bad('CONNECT to a path', 'target', request('CONNECT /x HTTP/1.1', 'Host: a')),
  bad('CONNECT without port', 'target', request('CONNECT a HTTP/1.1', 'Host: a')),
  bad(
    'CONNECT with body',
    'body_forbidden',
    request('CONNECT a:1 HTTP/1.1', 'Host: a:1', 'Content-Length: 3') + 'abc',
  ),
  bad('CONNECT with another Host', 'host_mismatch', request('CONNECT a:1 HTTP/1.1', 'Host: b:1')),
  bad('tab behind the method', 'method', request('GET\t/ HTTP/1.1', 'Host: a')),
  bad('space before the method', 'method', request(' GET / HTTP/1.1', 'Host: a')),
  bad('method in lower case', 'unknown_method', request('get / HTTP/1.1', 'Host: a'), 501),
  bad('method unknown', 'unknown_method', request('FETCH / HTTP/1.1', 'Host: a'), 501),
  bad('two spaces before the version', 'version', request('GET /  HTTP/1.1', 'Host: a')),
  bad('space behind the version', 'version', request('GET / HTTP/1.1 ', 'Host: a')),
  bad('HTTP/0.9', 'request_line', 'GET /\r\n\r\n'),
  bad('HTTP/1.2', 'unknown_version', request('GET / HTTP/1.2', 'Host: a'), 505),
  bad('HTTP/2.0', 'unknown_version', request('GET / HTTP/2.0', 'Host: a'), 505),
  bad('HTTP/1.10', 'version', request('GET / HTTP/1.10', 'Host: a')),
  bad('http in lower case', 'version', request('GET / http/1.1', 'Host: a')),
  bad('two empty lines before', 'empty_lines', `\r\n\r\n${get()}`),
  bad(
    'Connection nominates Content-Length',
    'connection',
    post('Connection: content-length', 'Content-Length: 5') + 'hello',
  ),
  bad('Connection nominates Host', 'connection', get('Connection: Host')),
  bad('Connection is not a list of tokens', 'connection', get('Connection: a b')),
  bad(
    'CVE-2026-73548 Upgrade with a body',
    'upgrade_with_body',
    post('Connection: upgrade', 'Upgrade: websocket', 'Content-Length: 5') + 'hello',
  ),
  bad(
    'Upgrade with a chunked body',
    'upgrade_with_body',
    post('Connection: upgrade', 'Upgrade: x', 'Transfer-Encoding: chunked') + '0\r\n\r\n',
  ),
  bad('Upgrade names two protocols', 'upgrade', get('Connection: upgrade', 'Upgrade: websocket, x')),
  bad('Expect of something else', 'expectation', post('Expect: 200-ok', 'Content-Length: 0'), 417),
  bad(
    'TRACE with a body',
    'body_forbidden',
    request('TRACE / HTTP/1.1', 'Host: a', 'Content-Length: 1') + 'x',
  ),
  bad(
    'too many headers',
    'too_many_headers',
    get(...Array.from({ length: 100 }, (_, i) => `X-${i}: 1`)),
    431,
  ),
  bad('head too large', 'head_too_large', get(`X: ${'a'.repeat(70000)}`), 431),
  bad('target too long', 'target_too_long', request(`GET /${'a'.repeat(70000)} HTTP/1.1`, 'Host: a'), 414),
]

export const badRequests: Bad[] = [...framing, ...meaning]

export const badResponses: (Bad & Answer)[] = [
  bad(
    'CL+TE',
    'length_and_coding',
    'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
  ),
  bad(
    'two Content-Length',
    'duplicate_content_length',
    'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok',
  ),
  bad('TE other than chunked', 'unknown_coding', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n', 501),
  bad(
    'TE with HTTP/1.0',
    'coding_on_old_version',
    'HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
  ),
  bad('204 with a body', 'body_forbidden', 'HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok'),
  bad(
    '100 with a chunked body',
    'body_forbidden',
    'HTTP/1.1 100 Continue\r\nTransfer-Encoding: chunked\r\n\r\n',
  ),
  bad('101 without Upgrade', 'upgrade', 'HTTP/1.1 101 Switching Protocols\r\n\r\n'),
  bad('status of two digits', 'status_line', 'HTTP/1.1 20 OK\r\n\r\n'),
  bad('status of four digits', 'status_line', 'HTTP/1.1 2000 OK\r\n\r\n'),
  bad('status below 100', 'status_line', 'HTTP/1.1 099 OK\r\n\r\n'),
  bad('reason with a control byte', 'status_line', 'HTTP/1.1 200 O\x01K\r\n\r\n'),
  bad('status line ended by LF', 'bare_lf', 'HTTP/1.1 200 OK\nX: y\r\n\r\n'),
  bad('header ended by LF', 'bare_lf', 'HTTP/1.1 200 OK\r\nX: y\n\r\n'),
  bad('folded header', 'fold', 'HTTP/1.1 200 OK\r\nX: y\r\n z\r\n\r\n'),
  bad('HTTP/2.0', 'unknown_version', 'HTTP/2.0 200 OK\r\n\r\n', 505),
  bad('not HTTP', 'status_line', 'ICY 200 OK\r\n\r\n'),
  {
    ...bad('2xx to CONNECT with a body', 'body_forbidden', 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'),
    requestMethod: 'CONNECT',
  },
]
