import assert from 'node:assert/strict'
import { createServer, type AddressInfo } from 'node:net'
import { test } from 'node:test'
import { listenersOf, locate, reachable } from '../../src/agent/locate.ts'

const head =
  '  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode'
const line = (local: string, state: string = '0A'): string =>
  `   0: ${local} 00000000:0000 ${state} 00000000:00000000`
const table = (...lines: string[]): string => [head, ...lines, ''].join('\n')

test('reads both tables, listening sockets of the port only', () => {
  const v4 = table(line('0100007F:1F90'), line('0A00000A:1F90', '01'), line('00000000:0016'))
  const v6 = table(line('00000000000000000000000000000000:0050'))
  assert.deepEqual(listenersOf([v4, v6], 8080), ['127.0.0.1'])
  assert.deepEqual(listenersOf([v4], 22), ['0.0.0.0'])
  assert.deepEqual(listenersOf([v4], 9), [])
})

test('IPv6 and mapped addresses', () => {
  const any = table(line('00000000000000000000000000000000:1F90'))
  const loop = table(line('00000000000000000000000001000000:1F90'))
  const mapped = table(line('0000000000000000FFFF00000500000A:1F90'))
  const global = table(line('B80D0120000000000000000001000000:1F90'))
  assert.deepEqual(listenersOf([any], 8080), ['::'])
  assert.deepEqual(listenersOf([loop], 8080), ['::1'])
  assert.deepEqual(listenersOf([mapped], 8080), ['10.0.0.5'])
  assert.deepEqual(listenersOf([global], 8080), ['2001:db8::1'])
})

test('loopback wherever that works', () => {
  assert.equal(reachable(['0.0.0.0', '10.0.0.5']), '127.0.0.1')
  assert.equal(reachable(['::']), '::1')
  assert.equal(reachable(['::1', '127.0.0.1']), '127.0.0.1')
  assert.equal(reachable(['10.0.0.5']), '10.0.0.5')
  assert.equal(reachable(['10.0.0.5', '127.0.0.9']), '127.0.0.9')
  assert.equal(reachable([]), null)
})

test('finds a real listener', async () => {
  const server = createServer()
  await new Promise<void>((done) => void server.listen(0, '127.0.0.2', done))
  const { port } = server.address() as AddressInfo
  assert.equal(await locate(port), '127.0.0.2')
  await new Promise<void>((done) => void server.close(() => done()))
  assert.equal(await locate(port), null)
})
