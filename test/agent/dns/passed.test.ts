// The port of the host's resolver outlives the agent: who asks while none runs is answered by the next one.
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { BoundSocket, connect, createServer, type AddressInfo } from 'node:net'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { decode, encode, type DecodedPacket } from 'dns-packet'
import { framed } from '../../../src/agent/dns/forwarder.ts'
import { passedPair } from '../../../src/agent/names.ts'
import { passedDescriptors } from '../../../src/net/activation.ts'

const from = (path: string): string => JSON.stringify(join(import.meta.dirname, '../../../src', path))
/** Serves one name on the sockets that it is given from descriptor 3 on, until it is killed. */
const program = `
  import pino from 'pino'
  import { DnsServer } from ${from('agent/dns/server.ts')}
  import { passedDescriptors } from ${from('net/activation.ts')}
  const found = passedDescriptors({ LISTEN_FDS: '2', LISTEN_PID: String(process.pid) }, process.pid)
  const fd = (protocol) => found.find((each) => each.protocol === protocol && each.port > 0).fd
  const server = new DnsServer(pino({ level: 'silent' }))
  server.setTable(new Map([['web.default.mesh', '240.240.0.7']]))
  await server.listen('127.0.0.1', 0, { udp: fd('udp'), tcp: fd('tcp') })
`
const query = encode({ type: 'query', id: 5, questions: [{ name: 'web.mesh', type: 'A', class: 'IN' }] })

/** Node shows a datagram socket's descriptor nowhere else. */
function handleOf(socket: object): { fd: number; recvStop(): void } {
  const state = Object.getOwnPropertySymbols(socket).find((symbol) => symbol.description === 'state symbol')
  return (socket as Record<symbol, { handle: { fd: number; recvStop(): void } }>)[state!]!.handle
}

describe('sockets that are held for the agent', () => {
  const held = createSocket('udp4')
  // Unlike systemd, who holds a listening socket here takes connections from it too: those are dropped.
  const listener = createServer((socket) => socket.destroy())
  const children: ChildProcess[] = []
  let fds: number[] = []
  let port = 0

  before(async () => {
    const bound = new BoundSocket({ host: '127.0.0.1', port: 0 })
    const tcp = bound.fd()
    await new Promise<void>((done) => void listener.listen(bound, done))
    port = (listener.address() as AddressInfo).port
    await new Promise<void>((done) => void held.bind(port, '127.0.0.1', done))
    const handle = handleOf(held)
    // Held, not read: as systemd does while a service runs.
    handle.recvStop()
    fds = [handle.fd, tcp]
  })
  after(async () => {
    for (const child of children) child.kill('SIGKILL')
    held.close()
    listener.close()
    for (const child of children)
      if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
  })

  const serve = (): ChildProcess => {
    const child = spawn(
      process.execPath,
      ['--disable-warning=ExperimentalWarning', '--input-type=module-typescript', '-e', program],
      { stdio: ['ignore', 'inherit', 'inherit', ...fds] },
    )
    children.push(child)
    return child
  }
  const ask = async (): Promise<DecodedPacket> => {
    const socket = createSocket('udp4')
    const replied = once(socket, 'message')
    await new Promise<void>((done) => socket.send(query, port, '127.0.0.1', () => done()))
    return replied.then(([reply]) => {
      socket.close()
      return decode(reply as Buffer)
    })
  }
  const address = (packet: DecodedPacket): unknown => {
    const [first] = packet.answers ?? []
    return first?.type === 'A' ? first.data : null
  }

  test('what was asked while nobody ran is answered by the next, again and again', async () => {
    for (const _ of [1, 2]) {
      const asked = [ask(), ask()]
      const child = serve()
      assert.deepEqual((await Promise.all(asked)).map(address), ['240.240.0.7', '240.240.0.7'])
      child.kill('SIGKILL')
      await once(child, 'exit')
    }
    serve()
    assert.equal(address(await ask()), '240.240.0.7')
  })

  test('over TCP too', async () => {
    let bytes: Buffer | null = null
    const end = performance.now() + 30_000
    while (bytes === null) {
      assert.ok(performance.now() < end, 'no answer')
      const socket = connect(port, '127.0.0.1', () => socket.write(framed(query)))
      bytes = await new Promise((done) => {
        socket.once('data', done)
        socket.once('error', () => undefined)
        socket.once('close', () => done(null))
      })
      socket.destroy()
    }
    assert.equal(address(decode(bytes.subarray(2))), '240.240.0.7')
  })

  test('only both sockets of the port that the resolver asks are taken', () => {
    const udp = { fd: 4, protocol: 'udp', port: 53 } as const
    const tcp = { fd: 3, protocol: 'tcp', port: 53 } as const
    assert.deepEqual(passedPair([tcp, udp]), { udp: 4, tcp: 3 })
    for (const some of [[], [udp], [tcp], [udp, { ...tcp, port: 54 }], [udp, { ...udp, fd: 5 }]])
      assert.equal(passedPair(some), null)
    // Meant for another process, or none at all.
    assert.deepEqual(passedDescriptors({ LISTEN_FDS: '1', LISTEN_PID: '1' }, process.pid), [])
    assert.deepEqual(passedDescriptors({}, process.pid), [])
  })
})
