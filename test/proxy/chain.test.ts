import assert from 'node:assert/strict'
import { test } from 'node:test'
import { readSocketAddress } from '../../src/proxy/listener/origdst.ts'
import { compileChain, Done, Next, run, Wait } from '../../src/proxy/chain/filter.ts'
import type { Filter, Verdict } from '../../src/proxy/chain/filter.ts'
import type { Exchange } from '../../src/proxy/chain/exchange.ts'
import { localReply, causes } from '../../src/proxy/chain/reply.ts'
import { quoted } from '../../src/proxy/lines.ts'
import { isMeshHeader, isProtected } from '../../src/proxy/filter/header.ts'
import * as order from '../../src/proxy/order.ts'
import { compileString } from '../../src/proxy/route/match.ts'
import { settings } from './hops.ts'

test('the order of the filters', () => {
  const route = { timeout: 1000 }
  assert.deepEqual(compileChain(order.outbound(settings, route)).names, [
    'access',
    'metrics',
    'request-id',
    'timeout',
  ])
  assert.deepEqual(compileChain(order.inbound(settings)).names, [
    'access',
    'metrics',
    'request-id',
    'identity',
  ])
  const plain = compileChain(order.outbound({ ...settings, accessLog: false }, { timeout: 0 }))
  assert.deepEqual(plain.names, ['metrics', 'request-id'])
  assert.equal(plain.onRequestData, null)
  assert.equal(plain.onResponseData, null)
})

test('steps run in order, responses in reverse; Wait keeps the place, Done ends', () => {
  const ran: string[] = []
  const filter = (name: string, verdict: Verdict): Filter => ({
    name,
    onRequest: () => {
      ran.push(name)
      return verdict
    },
    onResponse: () => {
      ran.push(`${name} back`)
      return Next
    },
  })
  const x = { step: 0 } as Exchange
  const chain = compileChain([
    filter('a', Next),
    null,
    filter('b', Wait),
    filter('c', Done),
    filter('d', Next),
  ])
  assert.equal(run(chain.onRequest, x), Wait)
  assert.deepEqual(ran, ['a', 'b'])
  assert.equal(run(chain.onRequest, x), Done)
  assert.deepEqual(ran, ['a', 'b', 'c'])
  ran.length = 0
  assert.equal(run(chain.onResponse, x), Next)
  assert.deepEqual(ran, ['d back', 'c back', 'b back', 'a back'])
  assert.equal(chain.onConnect, null)
})

test('a local reply cannot be split by what a peer sent', () => {
  const options = { status: 0, method: 'GET', close: true, requestId: 'a\r\nx: y' }
  const text = localReply(causes.noHealthy, 'bad\r\nset-cookie: a', options).toString('latin1')
  assert.doesNotMatch(text, /\r\n(x: y|set-cookie)/)
  assert.match(text, /^HTTP\/1\.1 503 Service Unavailable\r\n/)
  const length = Number(/content-length: (\d+)/.exec(text)?.[1])
  assert.equal(text.length - text.indexOf('\r\n\r\n') - 4, length)
})

test('log fields stay one line of JSON whatever peers send', () => {
  for (const text of ['plain', 'a"b\\c', 'line\nfeed\r\u001b[31m', '\u0085\u2028é', '\u0000']) {
    assert.equal(JSON.parse(quoted(text)), text)
    assert.match(quoted(text), /^[\x20-\x7e]*$/)
  }
})

test('headers that only the mesh may set are known in every spelling', () => {
  for (const name of [
    'x-forwarded-client-cert',
    'x_forwarded_client_cert',
    'x-meshctl-reason',
    'x_meshctl_a',
    'x_request_id',
  ]) {
    assert.ok(isMeshHeader(name), name)
  }
  for (const name of ['x-request-id', 'x-forwarded-for', 'x-custom', 'host'])
    assert.ok(!isMeshHeader(name), name)
  assert.ok(isProtected('x-request-id') && isProtected('traceparent') && !isProtected('x-custom'))
})

test('expressions are linear in time and anchored', () => {
  const evil = compileString({ kind: 'regex', value: '(a+)+b' })
  const before = process.threadCpuUsage()
  assert.equal(evil('a'.repeat(5000)), false)
  assert.ok(process.threadCpuUsage(before).user < 1_000_000)
  assert.equal(compileString({ kind: 'regex', value: 'a|b' })('xb'), false)
  assert.equal(compileString({ kind: 'prefix', value: '/A' }, true)('/abc'), true)
  assert.equal(compileString({ kind: 'regex', value: '[a-z]{1,63}' }, true)('a'.repeat(63)), true)
  assert.throws(() => compileString({ kind: 'regex', value: '(a)\\1' }), { code: 'MSH0701' })
})

test('original destinations are read from both address families', () => {
  const four = Buffer.from([2, 0, 0x1f, 0x90, 240, 240, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0])
  assert.deepEqual(readSocketAddress(four, true), { address: '240.240.1.2', port: 8080 })
  const six = Buffer.alloc(28)
  six.writeUInt16LE(10, 0)
  six.writeUInt16BE(443, 2)
  six.set([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], 8)
  assert.deepEqual(readSocketAddress(six, true), { address: 'fd00::1', port: 443 })
  assert.equal(readSocketAddress(Buffer.alloc(28), true), null)
})
