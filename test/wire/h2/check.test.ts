// Which blocks are messages. Everything here is what RFC 9113 8.1.1 calls malformed, or what HTTP/1.1 behind us would misread.
import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { faultName, faultStatus } from '../../../src/wire/fault.ts'
import { requestFault, responseFault, trailersFault } from '../../../src/wire/h2/check.ts'
import { HpackDecoder } from '../../../src/wire/h2/decoder.ts'
import { Fields } from '../../../src/wire/h2/fields.ts'
import { literal } from './reference.ts'

type Line = [name: string, value: string]

function read(...lines: Line[]): Fields {
  const block = Buffer.concat(lines.map(([name, value]) => literal(0, name, value)))
  const fields = new Fields()
  const decoder = new HpackDecoder({ maxFields: 100, maxListBytes: 65536, maxTableBytes: 4096 })
  assert.equal(decoder.decode(block, 0, block.length, fields), 0)
  return fields
}

const word = (fault: number): string => (fault === 0 ? '' : faultName(fault))

const get: Line[] = [
  [':method', 'GET'],
  [':scheme', 'http'],
  [':authority', 'a'],
  [':path', '/'],
]
/** The head of a GET with one pseudo field changed, or left out. */
const but = (name: string, value?: string): Line[] =>
  get.flatMap((line): Line[] => (line[0] === name ? (value === undefined ? [] : [[name, value]]) : [line]))
const connect = (...lines: Line[]): Line[] => [[':method', 'CONNECT'], ...lines]
const websocket = connect(
  [':protocol', 'websocket'],
  [':scheme', 'http'],
  [':path', '/'],
  [':authority', 'a'],
)

const requests: [string, string, Line[]][] = [
  ['a plain one', '', get],
  ['host instead of :authority', '', [...but(':authority'), ['host', 'a']]],
  ['host that agrees', '', [...get, ['host', 'A.:80']]],
  ['OPTIONS *', '', [[':method', 'OPTIONS'], ...get.slice(1, 3), [':path', '*']]],
  ['te: trailers', '', [...get, ['te', 'trailers']]],
  ['an empty value', '', [...get, ['x-a', '']]],
  ['blanks within a value', '', [...get, ['x-a', 'b \t c']]],
  ['a backslash in the query', '', but(':path', '/?a\\b')],
  ['CONNECT', '', connect([':authority', 'a:443'])],
  ['CONNECT to an IPv6 address', '', connect([':authority', '[fd00::1]:443'])],
  ['extended CONNECT', '', websocket],

  ['no :method', 'missing_pseudo', but(':method')],
  ['no :scheme', 'missing_pseudo', but(':scheme')],
  ['no :path', 'missing_pseudo', but(':path')],
  ['neither :authority nor host', 'missing_host', but(':authority')],
  ['nothing at all', 'missing_pseudo', []],
  ['an empty :path', 'target', but(':path', '')],
  ['an empty :method', 'method', but(':method', '')],
  ['an empty :authority', 'host', but(':authority', '')],
  ['an unknown pseudo field', 'pseudo', [...get, [':foo', 'bar']]],
  ['a colon alone', 'pseudo', [...get, [':', 'bar']]],
  ['a pseudo field in upper case', 'pseudo', [...but(':path'), [':Path', '/']]],
  ['a pseudo field of responses', 'pseudo', [...get, [':status', '200']]],
  ['a pseudo field behind a regular one', 'pseudo', [...but(':path'), ['x-a', 'b'], [':path', '/']]],
  ...get.map(([name, value]): [string, string, Line[]] => [
    `${name} twice`,
    'pseudo',
    [...get, [name, value]],
  ]),
  ['a scheme that is not HTTP', 'scheme', but(':scheme', 'ftp')],
  ['a scheme in upper case', 'scheme', but(':scheme', 'HTTP')],
  ['a method with a space', 'method', but(':method', 'GET /x')],
  ['a method with line ends', 'value', but(':method', 'GET / HTTP/1.1\r\nX: y\r\n\r\nGET')],
  ['a method in lower case', 'unknown_method', but(':method', 'delete')],
  ['a path with a space', 'target', but(':path', '/ HTTP/1.1')],
  ['a path with line ends', 'value', but(':path', '/ HTTP/1.1\r\nX: y')],
  ['a path with a bare LF', 'value', but(':path', '/\nx')],
  ['a path with NUL', 'value', but(':path', '/\0')],
  ['a path with a tab', 'target', but(':path', '/\tx')],
  ['a path with obs-text', 'target', but(':path', '/\xe9')],
  ['a path with a fragment', 'target', but(':path', '/#a')],
  ['a path with a backslash', 'target', but(':path', '/a\\..\\b')],
  ['a path without its slash', 'target', but(':path', 'a/b')],
  ['an absolute form as path', 'target', but(':path', 'http://b/')],
  ['an authority form as path', 'target', but(':path', '@b/')],
  ['* for GET', 'target', but(':path', '*')],
  ['* and more', 'target', [[':method', 'OPTIONS'], ...get.slice(1, 3), [':path', '*/x']]],
  ['an authority with userinfo', 'host', but(':authority', 'u:p@a')],
  ['an authority with a path', 'host', but(':authority', 'a/b')],
  ['an authority with a list', 'host', but(':authority', 'a, b')],
  ['an authority with a bad port', 'host', but(':authority', 'a:0')],
  ['an authority with line ends', 'value', but(':authority', 'a\r\nx-b: c')],
  ['host that does not agree', 'host_mismatch', [...get, ['host', 'b']]],
  ['host with another port', 'host_mismatch', [...get, ['host', 'a:81']]],
  ['an empty host', 'host', [...get, ['host', '']]],
  ['two hosts', 'duplicate_host', [...but(':authority'), ['host', 'a'], ['host', 'a']]],

  ['a name in upper case', 'name', [...get, ['X-a', 'b']]],
  ['an empty name', 'empty_name', [...get, ['', 'b']]],
  ['a name with a space', 'name', [...get, ['x-a ', 'b']]],
  ['a name with a colon', 'name', [...get, ['x:a', 'b']]],
  ['a name with line ends', 'name', [...get, ['x-a: b\r\nx-c', 'd']]],
  ['a name with NUL', 'name', [...get, ['x\0', 'b']]],
  ['a name with obs-text', 'name', [...get, ['x\xe9', 'b']]],
  ['HAProxy CVE-2019-19330: a value with CR', 'value', [...get, ['x-a', 'b\rc']]],
  ['a value with line ends', 'value', [...get, ['x-a', 'b\r\ntransfer-encoding: chunked']]],
  ['a value with LF', 'value', [...get, ['x-a', 'b\nc']]],
  ['a value with NUL', 'value', [...get, ['x-a', 'b\0']]],
  ['a value with DEL', 'value', [...get, ['x-a', 'b\x7f']]],
  ['a value that begins with a blank', 'value', [...get, ['x-a', ' b']]],
  ['a value that ends with a tab', 'value', [...get, ['x-a', 'b\t']]],
  ['a value of one blank', 'value', [...get, ['x-a', ' ']]],
  ['connection', 'connection_field', [...get, ['connection', 'close']]],
  ['keep-alive', 'connection_field', [...get, ['keep-alive', '5']]],
  ['proxy-connection', 'connection_field', [...get, ['proxy-connection', 'close']]],
  ['transfer-encoding', 'connection_field', [...get, ['transfer-encoding', 'chunked']]],
  ['upgrade', 'connection_field', [...get, ['upgrade', 'h2c']]],
  ['http2-settings', 'connection_field', [...get, ['http2-settings', 'AA']]],
  ['te of another kind', 'connection_field', [...get, ['te', 'trailers, gzip']]],
  ['an empty content-length', 'content_length', [...get, ['content-length', '']]],
  ['a signed content-length', 'content_length', [...get, ['content-length', '+1']]],
  ['a list of content-length', 'content_length', [...get, ['content-length', '1, 1']]],
  ['a content-length beyond 2^53', 'content_length', [...get, ['content-length', '9007199254740993']]],
  [
    'two content-length',
    'duplicate_content_length',
    [...get, ['content-length', '1'], ['content-length', '2']],
  ],
  [
    'two equal content-length',
    'duplicate_content_length',
    [...get, ['content-length', '1'], ['content-length', '1']],
  ],
  ['an expectation that we do not know', 'expectation', [...get, ['expect', 'tea']]],
  ['TRACE with a body', 'body_forbidden', [...but(':method', 'TRACE'), ['content-length', '1']]],

  ['CONNECT without :authority', 'missing_pseudo', connect()],
  ['CONNECT with host only', 'missing_pseudo', connect(['host', 'a:443'])],
  ['CONNECT with :path', 'pseudo', connect([':authority', 'a:443'], [':path', '/'])],
  ['CONNECT with :scheme', 'pseudo', connect([':authority', 'a:443'], [':scheme', 'http'])],
  ['CONNECT without a port', 'target', connect([':authority', 'a'])],
  ['CONNECT to an IPv6 address without a port', 'target', connect([':authority', '[fd00::1]'])],
  ['CONNECT with a body', 'body_forbidden', connect([':authority', 'a:443'], ['content-length', '0'])],
  [':protocol without CONNECT', 'pseudo', [...get, [':protocol', 'websocket']]],
  ['a :protocol that is no token', 'protocol', [[':protocol', 'web socket'], ...websocket.slice(2)]],
  [
    'extended CONNECT without :path',
    'missing_pseudo',
    connect([':protocol', 'websocket'], [':authority', 'a'], [':scheme', 'http']),
  ],
  [
    'extended CONNECT without :scheme',
    'missing_pseudo',
    connect([':protocol', 'websocket'], [':authority', 'a'], [':path', '/']),
  ],
  ['extended CONNECT to *', 'target', [...websocket.filter(([name]) => name !== ':path'), [':path', '*']]],
]

suite('requests', () => {
  for (const [name, fault, lines] of requests) {
    test(name, () => assert.equal(word(requestFault(read(...lines))), fault))
  }

  test('what a good one tells', () => {
    const more: Line[] = [
      ['content-length', '12'],
      ['expect', '100-Continue'],
      ['cookie', 'a=1'],
      ['x-a', '1'],
      ['cookie', 'b=2'],
      ['x-a', '2'],
    ]
    const fields = read(...but(':authority', 'Web.Mesh.:8080'), ...more)
    assert.equal(requestFault(fields), 0)
    assert.equal(fields.authority, 'Web.Mesh.:8080')
    assert.equal(fields.host, 'web.mesh:8080')
    assert.equal(fields.contentLength, 12)
    assert.equal(fields.expectContinue, true)
    assert.equal(fields.get('cookie'), 'a=1; b=2')
    assert.equal(fields.get('x-a'), '1, 2')
    assert.equal(fields.get('x-b'), undefined)
    assert.equal(fields.has('x-a'), true)
    assert.deepEqual([fields.name(3), fields.value(3)], ['x-a', '1'])
    assert.equal(fields.items[3]!.line, 'x-a: 1\r\n')
  })

  test('its lines for HTTP/1.1: crumbs of cookies are one line, whatever is written again and again', () => {
    const fields = read(
      ...get,
      ['x-a', '1'],
      ['cookie', 'a=1'],
      ['x-long', 'y'.repeat(300)],
      ['cookie', 'b=2'],
      ['te', 'trailers'],
      ['cookie', 'c=3'],
      ['x-b', ''],
    )
    const lines = `x-a: 1\r\ncookie: a=1; b=2; c=3\r\nx-long: ${'y'.repeat(300)}\r\nx-b: \r\n`
    const out = Buffer.alloc(fields.bound + 3, '!')
    for (let i = 0; i < 3; i++) {
      const end = fields.writeLines(out, 3, (k, all) => all.name(k) === 'te')
      assert.equal(out.toString('latin1', 3, end), lines)
      assert.equal(out[end], 33)
    }
    assert.throws(() => fields.writeLines(Buffer.alloc(10), 0, () => false), RangeError)
    assert.equal(fields.items[0]!.line, 'x-a: 1\r\n')
  })

  test('a method that we do not know is answered by 501, the rest by 400', () => {
    assert.equal(faultStatus(requestFault(read(...but(':method', 'BREW')))), 501)
    assert.equal(faultStatus(requestFault(read(...but(':method', 'a b')))), 400)
  })
})

suite('responses', () => {
  const cases: [string, string, Line[]][] = [
    ['a plain one', '', [[':status', '200']]],
    ['an interim one', '', [[':status', '103']]],
    ['a status of later days', '', [[':status', '799']]],
    [
      '204 with content-length 0',
      '',
      [
        [':status', '204'],
        ['content-length', '0'],
      ],
    ],
    [
      '304 with a length',
      '',
      [
        [':status', '304'],
        ['content-length', '5'],
      ],
    ],
    ['none', 'missing_pseudo', []],
    ['no :status', 'missing_pseudo', [['x-a', 'b']]],
    [
      'two of them',
      'pseudo',
      [
        [':status', '200'],
        [':status', '200'],
      ],
    ],
    [
      'late',
      'pseudo',
      [
        ['x-a', 'b'],
        [':status', '200'],
      ],
    ],
    [
      'with :method',
      'pseudo',
      [
        [':status', '200'],
        [':method', 'GET'],
      ],
    ],
    ['two digits', 'status', [[':status', '20']]],
    ['four digits', 'status', [[':status', '2000']]],
    ['letters', 'status', [[':status', '20x']]],
    ['below 100', 'status', [[':status', '099']]],
    ['with a reason', 'status', [[':status', '200 OK']]],
    ['with line ends', 'value', [[':status', '200\r\nX: y']]],
    ['101', 'status', [[':status', '101']]],
    [
      'an interim one with a body',
      'body_forbidden',
      [
        [':status', '100'],
        ['content-length', '5'],
      ],
    ],
    [
      '204 with a body',
      'body_forbidden',
      [
        [':status', '204'],
        ['content-length', '5'],
      ],
    ],
    [
      'transfer-encoding',
      'connection_field',
      [
        [':status', '200'],
        ['transfer-encoding', 'chunked'],
      ],
    ],
    [
      'connection',
      'connection_field',
      [
        [':status', '200'],
        ['connection', 'close'],
      ],
    ],
  ]
  for (const [name, fault, lines] of cases) {
    test(name, () => assert.equal(word(responseFault(read(...lines))), fault))
  }
})

suite('trailers', () => {
  const cases: [string, string, Line[]][] = [
    [
      'of gRPC',
      '',
      [
        ['grpc-status', '0'],
        ['grpc-message', ''],
        ['x-sum', '1'],
      ],
    ],
    ['none', '', []],
    ['with :status', 'pseudo', [[':status', '200']]],
    ['with :path', 'pseudo', [[':path', '/']]],
    ['malformed', 'value', [['x-a', 'b\n']]],
    ['transfer-encoding', 'connection_field', [['transfer-encoding', 'chunked']]],
    ...[
      'host a',
      'content-length 5',
      'authorization x',
      'cookie a',
      'set-cookie a',
      'x-forwarded-for 1.2.3.4',
      'x_forwarded_for 1.2.3.4',
      'x-envoy-original-path /',
      'x-meshctl-identity a',
      'x_meshctl-identity a',
      'te trailers',
      'expect 100-continue',
      'content-type a',
      'cache-control a',
      'traceparent a',
    ].map((text): [string, string, Line[]] => [text, 'forbidden_trailer', [text.split(' ') as Line]]),
  ]
  for (const [name, fault, lines] of cases) {
    test(name, () => assert.equal(word(trailersFault(read(...lines))), fault))
  }
})

test('one Fields serves block after block, and lets go of large ones', () => {
  const decoder = new HpackDecoder({ maxFields: 100, maxListBytes: 65536, maxTableBytes: 4096 })
  const fields = new Fields()
  const bad = literal(0, 'x-a', `\n${'b'.repeat(9000)}`)
  decoder.decode(bad, 0, bad.length, fields)
  assert.notEqual(fields.fault, 0)
  fields.release()
  assert.equal(fields.items.length, 0)
  const good = Buffer.concat(get.map(([name, value]) => literal(0, name, value)))
  decoder.decode(good, 0, good.length, fields)
  assert.equal(requestFault(fields), 0)
  const empty = Buffer.alloc(0)
  decoder.decode(empty, 0, 0, fields)
  assert.deepEqual(
    [fields.method, fields.path, fields.host, fields.total, requestFault(fields) < 0],
    ['', '', '', 0, true],
  )
})
