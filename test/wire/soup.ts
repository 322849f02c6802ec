// Requests by chance: scraps that carry meaning, put together in any order.
import fc from 'fast-check'

const scraps = fc.constantFrom(
  'GET',
  'POST',
  'HEAD',
  ' ',
  '/',
  '*',
  'http://a/',
  'HTTP/1.1',
  'HTTP/1.0',
  '\r\n',
  '\r',
  '\n',
  '\r\n\r\n',
  ':',
  ': ',
  '\t',
  'Host: a\r\n',
  'Host: b\r\n',
  'Content-Length: 3\r\n',
  'Content-Length: 0\r\n',
  'content-length:3',
  'Transfer-Encoding: chunked\r\n',
  'Transfer-Encoding: identity\r\n',
  'Connection: close\r\n',
  'Connection: upgrade\r\nUpgrade: x\r\n',
  'abc',
  '3\r\nabc\r\n',
  '0\r\n\r\n',
  '0\r\nX: y\r\n\r\n',
  '3;a=b\r\n',
  'GET / HTTP/1.1\r\nHost: a\r\n',
  '\0',
  '\xff',
  ',',
  'chunked',
  'x',
)
export const soup: fc.Arbitrary<Buffer> = fc
  .array(scraps, { minLength: 1, maxLength: 14 })
  .map((parts) => Buffer.from(parts.join(''), 'latin1'))
const lines = fc.constantFrom(
  'GET / HTTP/1.1\r\nHost: a\r\n',
  'POST /x HTTP/1.1\r\nHost: a\r\n',
  'PUT /y HTTP/1.0\r\n',
)
const fields = fc.constantFrom(
  'Content-Length: 3\r\n',
  'Content-Length: 0\r\n',
  'Content-Length: 03 \r\n',
  'Transfer-Encoding: chunked\r\n',
  'transfer-encoding:\tchunked\r\n',
  'Connection: keep-alive\r\n',
  'Connection: close\r\n',
  'X-A: \xff\r\n',
  'X-B:\r\n',
  ' folded\r\n',
  'X-C: y\n',
)
const bodies = fc.constantFrom(
  '',
  'abc',
  '3\r\nabc\r\n',
  '3;a=b\r\nabc\r\n',
  '0\r\n\r\n',
  '0\r\nX: y\r\n\r\n',
  '\r\n',
)

/** Nearly good requests, several on a connection. */
const nearly: fc.Arbitrary<Buffer> = fc
  .array(fc.tuple(lines, fc.array(fields, { maxLength: 2 }), fc.array(bodies, { maxLength: 3 })), {
    minLength: 1,
    maxLength: 3,
  })
  .map((messages) =>
    Buffer.from(
      messages.map(([line, more, body]) => `${line}${more.join('')}\r\n${body.join('')}`).join(''),
      'latin1',
    ),
  )

/** Nonsense, nonsense behind the beginning of a good request, and nearly good requests. */
export const requests: fc.Arbitrary<Buffer> = fc.oneof(
  soup,
  fc.tuple(lines, soup).map(([line, rest]) => Buffer.concat([Buffer.from(line), rest])),
  { arbitrary: nearly, weight: 3 },
)

/** The seed of all properties of a run, printed in their names; FUZZ_SEED repeats one. */
export const seed = Number(process.env['FUZZ_SEED'] ?? Math.floor(Math.random() * 2 ** 31))
