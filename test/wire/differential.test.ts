// Nothing that llhttp refuses is accepted by us: the corpus mutated at every place, and messages made by chance.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { badRequests } from './attacks.ts'
import { goodRequests, goodResponses } from './corpus.ts'
import { readLlhttp } from './llhttp.ts'
import { read } from './reading.ts'
import { requests, seed, soup } from './soup.ts'
import type { Reading } from './reading.ts'

/** Bytes that parsers have disagreed about. */
const nasty = [0, 1, 9, 10, 11, 13, 32, 34, 44, 48, 58, 59, 61, 65, 92, 127, 128, 255]

/** Each message that we take whole must be in llhttp's reading, the same in every part. */
function within(bytes: Buffer, kind: 'request' | 'response', requestMethod: string = 'GET'): void {
  const ours = read(bytes, [], { kind, requestMethod })
  if (ours.messages.length === 0) return
  const theirs = readLlhttp(bytes, kind, requestMethod)
  const note = (): string =>
    `${JSON.stringify(bytes.toString('latin1'))} llhttp says ${theirs.fault} ${JSON.stringify(theirs.messages)}`
  for (const [i, message] of ours.messages.entries()) {
    if (!message.complete) continue
    const other = theirs.messages[i]
    assert.ok(other !== undefined && other.complete, `we accepted ${note()}`)
    assert.deepEqual(comparable(message), comparable(other), `we read another message: ${note()}`)
    // To HEAD a response without a length ends at its head, and the connection lives; llhttp tells it must close.
    const mayLive = other.keepAlive || requestMethod === 'HEAD'
    assert.ok(!message.keepAlive || mayLive, `we keep the connection: ${note()}`)
  }
}

/** What both must agree on. An absolute form is reduced to its path by us alone. */
function comparable(message: Reading['messages'][number]): unknown {
  const start = message.start.replace(/ http:\/\/[^/?]*/i, ' ').replace(/ (\?|$)/, ' /$1')
  return { start, minor: message.minor, headers: message.headers, body: message.body }
}

test('mutations of every byte of the corpus', () => {
  for (const { bytes: text } of [...goodRequests, ...badRequests.filter((bad) => bad.bytes.length < 300)]) {
    for (const bytes of mutations(Buffer.from(text, 'latin1'))) within(bytes, 'request')
  }
})

test('mutations of responses', () => {
  for (const { bytes: text, requestMethod } of goodResponses) {
    for (const bytes of mutations(Buffer.from(text, 'latin1'))) within(bytes, 'response', requestMethod)
  }
})

function* mutations(bytes: Buffer): Generator<Buffer> {
  for (let at = 0; at < bytes.length; at++) {
    yield Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 1)])
    yield Buffer.concat([bytes.subarray(0, at + 1), bytes.subarray(at)])
    for (const byte of nasty) {
      const changed = Buffer.from(bytes)
      changed[at] = byte
      yield changed
      yield Buffer.concat([bytes.subarray(0, at), Buffer.from([byte]), bytes.subarray(at)])
    }
  }
}

const property = { seed, interruptAfterTimeLimit: 1000, numRuns: 20000 }

test(`soup of scraps, seed ${seed}`, () => {
  fc.assert(
    fc.property(requests, (bytes) => {
      within(bytes, 'request')
    }),
    property,
  )
})

test(`soup of scraps as a response, seed ${seed}`, () => {
  const line = fc.constantFrom(
    'HTTP/1.1 200 OK\r\n',
    'HTTP/1.1 204 No\r\n',
    'HTTP/1.0 200\r\n',
    'HTTP/1.1 100 C\r\n\r\nHTTP/1.1 200 OK\r\n',
  )
  const answer = fc.tuple(line, soup).map(([first, rest]) => Buffer.concat([Buffer.from(first), rest]))
  fc.assert(
    fc.property(answer, fc.constantFrom('GET', 'HEAD'), (bytes, method) => within(bytes, 'response', method)),
    property,
  )
})

// Valid messages: accepted, read as llhttp reads them, and alike wherever they are cut.
const name = fc
  .stringMatching(/^[A-Za-z!#$%&'*+.^_`|~-][A-Za-z0-9-]{0,20}$/)
  .filter((n) => !/^(host|content-length|transfer-encoding|connection|upgrade|expect)$/i.test(n))
const value = fc.stringMatching(/^[\x21-\x7e\x80-\xff]?[\x20-\x7e\x80-\xff\t]{0,40}$/)
const fields = fc.array(fc.tuple(name, value), { maxLength: 12 })
const bodies = fc.oneof(
  fc.constant(''),
  fc.uint8Array({ minLength: 1, maxLength: 200 }).map((body) => {
    const text = Buffer.from(body).toString('latin1')
    return `Content-Length: ${text.length}\r\n\r\n${text}`
  }),
  fc.array(fc.uint8Array({ minLength: 1, maxLength: 50 }), { maxLength: 4 }).map((parts) => {
    const chunks = parts.map(
      (part) => `${part.length.toString(16)}\r\n${Buffer.from(part).toString('latin1')}\r\n`,
    )
    return `Transfer-Encoding: chunked\r\n\r\n${chunks.join('')}0\r\n\r\n`
  }),
)

test(`valid requests are accepted and alike at every cut, seed ${seed}`, () => {
  const message = fc.tuple(fields, bodies).map(([lines, body]) => {
    const head = `POST /p?q HTTP/1.1\r\nHost: a\r\n${lines.map(([n, v]) => `${n}: ${v}\r\n`).join('')}`
    return head + (body === '' ? '\r\n' : body)
  })
  fc.assert(
    fc.property(
      fc.array(message, { minLength: 1, maxLength: 3 }),
      fc.array(fc.nat(2000), { maxLength: 6 }),
      (texts, places) => {
        const bytes = Buffer.from(texts.join(''), 'latin1')
        const cuts = [...new Set(places.map((place) => place % bytes.length))].toSorted((a, b) => a - b)
        const ours = read(bytes, cuts)
        assert.equal(ours.fault, '')
        assert.deepEqual(ours, readLlhttp(bytes, 'request'))
      },
    ),
    property,
  )
})

test(`bytes by chance never throw, seed ${seed}`, () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
      read(Buffer.from(bytes))
      read(Buffer.from(bytes), [], { kind: 'response' })
    }),
    property,
  )
})
