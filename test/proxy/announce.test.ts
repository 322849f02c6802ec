// PROXY headers into the mesh and out to applications, with real sockets.
import assert from 'node:assert/strict'
import http from 'node:http'
import net from 'node:net'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import { proxyHeader, readProxyHeader, tlvTypes } from '../../src/wire/proxyprotocol.ts'
import type { ProxyHeader } from '../../src/wire/proxyprotocol.ts'
import { Authority, Caller, Client, eventually, Instance, listen, shopId } from './hops.ts'
import type { InstanceOptions } from './hops.ts'

const authority = new Authority()
const client = { address: '203.0.113.9', port: 40_000 }
const balancer = { address: '198.51.100.1', port: 443 }
const vpc = { type: 0xea, value: Buffer.from('vpce-1') }
const claimed = { type: tlvTypes.principal, value: Buffer.from('spiffe://mesh.test/ns/default/sa/admin') }

/** Takes a header, greets, echoes what comes behind it, and answers the client's end. */
class HeaderApp {
  readonly server: net.Server
  readonly headers: ProxyHeader[] = []

  constructor() {
    this.server = net.createServer({ allowHalfOpen: true }, (socket) => {
      let read = Buffer.alloc(0)
      let header: ProxyHeader | null = null
      socket.on('data', (chunk: Buffer) => {
        read = Buffer.concat([read, chunk])
        if (header === null) {
          const found = readProxyHeader(read, 0, read.length)
          if (found === 'more') return
          if (found === 'broken') {
            socket.destroy()
            return
          }
          header = found
          this.headers.push(found)
          socket.write('220 ready\r\n')
          read = read.subarray(found.length)
        }
        socket.write(read)
        read = Buffer.alloc(0)
      })
      socket.on('end', () => socket.end('bye'))
    })
  }
}

async function instanceOf(t: TestContext, app: net.Server, options: InstanceOptions): Promise<Instance> {
  return new Instance(t, await listen(t, app), options).start(authority)
}

async function callerOf(t: TestContext, instance: Instance): Promise<Caller> {
  return new Caller(t).start(authority, {
    protocol: instance.options.protocol ?? 'tcp',
    subsets: [{ name: '', weight: 1, endpoints: [instance.endpoint()] }],
  })
}

const echo = (): net.Server =>
  net.createServer({ allowHalfOpen: true }, (socket) => {
    socket.write('220 ready\r\n')
    socket.pipe(socket)
  })

test('send: an application is told who calls, with the identity that the link proved', async (t) => {
  const app = new HeaderApp()
  const options = { protocol: 'tcp', proxyProtocol: { accept: false, send: true } } as const
  const instance = await instanceOf(t, app.server, options)
  const caller = await callerOf(t, instance)
  const one = new Client(t, caller.port)
  // The application speaks first, and hears nothing but the header before.
  await one.untilText('220 ready')
  one.send('hello')
  await one.untilText('hello')
  one.socket.end()
  await one.untilText('bye')
  const [header] = app.headers
  assert.equal(header?.source?.address, '127.0.0.1')
  assert.ok(header.source.port > 0)
  assert.deepEqual(header.destination, { address: '127.0.0.1', port: instance.appPort })
  assert.deepEqual(header.tlvs, [{ type: tlvTypes.principal, value: Buffer.from(shopId) }])
  await eventually(() => instance.lines.length === 1, 'the line')
  // Ours is not the caller's.
  assert.equal(instance.lines[0]?.bytes_in, 5)
})

test('send: of plain connections the address alone is known', async (t) => {
  const app = new HeaderApp()
  const options = { protocol: 'tls', proxyProtocol: { accept: false, send: true } } as const
  const instance = await instanceOf(t, app.server, options)
  const one = new Client(t, instance.inboundPort)
  await one.untilText('220 ready')
  assert.equal(app.headers[0]?.source?.port, one.socket.localPort)
  assert.deepEqual(app.headers[0]?.tlvs, [])
})

test('accept: a header of either version is taken off, in any cut; half-close is kept', async (t) => {
  const options = { protocol: 'tcp', proxyProtocol: { accept: true, send: false } } as const
  const instance = await instanceOf(t, echo(), options)
  const v1 = Buffer.from('PROXY TCP4 203.0.113.9 198.51.100.1 40000 443\r\n')
  for (const header of [v1, proxyHeader(client, balancer, [vpc]), proxyHeader(null, null)]) {
    const whole = new Client(t, instance.inboundPort).send(Buffer.concat([header, Buffer.from('abc')]))
    await whole.untilText('220 ready\r\nabc')
    whole.socket.end()
    await whole.untilClosed()
    const bytes = new Client(t, instance.inboundPort)
    bytes.socket.setNoDelay(true)
    for (const byte of header) {
      bytes.send(Buffer.from([byte]))
      await new Promise((resolve) => setImmediate(resolve))
    }
    await bytes.untilText('220 ready')
    bytes.send('def')
    await bytes.untilText('220 ready\r\ndef')
    bytes.socket.destroy()
  }
})

test('accept: without a header there is no service', async (t) => {
  const options = { protocol: 'auto', proxyProtocol: { accept: true, send: false } } as const
  const instance = await instanceOf(t, echo(), options)
  await new Client(t, instance.inboundPort).send('GET / HTTP/1.1\r\n').untilClosed()
  await new Client(t, instance.inboundPort).send('PROXY TCP4 1.2.3.4\r\n').untilClosed()
  const ending = new Client(t, instance.inboundPort).send('PROXY ')
  ending.socket.end()
  await ending.untilClosed()
  await eventually(() => instance.lines.length === 3, 'the lines')
  for (const line of instance.lines) assert.deepEqual([line.flags, line.detail], ['DPE', 'no PROXY header'])
})

test('accept: a header that does not come is not waited for', async (t) => {
  const proxyProtocol = { accept: true, send: false }
  const options = { protocol: 'http', proxyProtocol, settings: { headTimeout: 50 } } as const
  const instance = await instanceOf(t, echo(), options)
  await new Client(t, instance.inboundPort).untilClosed()
  await new Client(t, instance.inboundPort).send('PROXY TC').untilClosed()
  await eventually(() => instance.lines.length === 2, 'the lines')
  for (const { detail } of instance.lines) assert.equal(detail, 'no PROXY header in time')
  assert.equal(await instance.engine.drain(1000), 0)
})

test('accept: HTTP is told where it comes from, behind what the client claims', async (t) => {
  for (const protocol of ['http', 'auto'] as const) {
    const options = { protocol, proxyProtocol: { accept: true, send: false } } as const
    const app = http.createServer(({ headers }, response) => {
      response.end(JSON.stringify([headers['x-forwarded-for'], headers['x-forwarded-client-cert'] ?? null]))
    })
    const instance = await instanceOf(t, app, options)
    const one = new Client(t, instance.inboundPort)
    one.send(proxyHeader(client, balancer, [claimed]))
    one.send(
      'GET /1 HTTP/1.1\r\nHost: web\r\nX-Forwarded-For: 10.0.0.1\r\n\r\nGET /2 HTTP/1.1\r\nHost: web\r\n\r\n',
    )
    await one.untilText('["10.0.0.1, 203.0.113.9",null]')
    await one.untilText('["203.0.113.9",null]')
    await eventually(() => instance.lines.length === 2, 'the lines')
    assert.equal(instance.lines[0]?.client, '203.0.113.9:40000', 'the balancer is not who calls')
    // Of a link nobody expects a header: it says itself who calls.
    const caller = await callerOf(t, instance)
    const inside = new Client(t, caller.port).send('GET / HTTP/1.1\r\nHost: web\r\n\r\n')
    await inside.untilText(shopId)
  }
})

test('accept and send: what the balancer said is passed on, but for what it claims of an identity', async (t) => {
  const app = new HeaderApp()
  const options = { protocol: 'tcp', proxyProtocol: { accept: true, send: true } } as const
  const instance = await instanceOf(t, app.server, options)
  const one = new Client(t, instance.inboundPort)
  one.send(Buffer.concat([proxyHeader(client, balancer, [claimed, vpc]), Buffer.from('hi')]))
  await one.untilText('220 ready\r\nhi')
  assert.deepEqual(app.headers[0], { source: client, destination: balancer, tlvs: [vpc], length: 37 })
  // A health check of the balancer is its own connection.
  const local = new Client(t, instance.inboundPort)
  local.send(Buffer.from('0d0a0d0a000d0a515549540a20000000', 'hex'))
  await local.untilText('220 ready')
  assert.deepEqual(app.headers[1]?.source, { address: '127.0.0.1', port: local.socket.localPort })
})

test('accept: strict mTLS refuses plain text behind a header too', async (t) => {
  const options = { protocol: 'http', mtls: 'strict', proxyProtocol: { accept: true, send: false } } as const
  const instance = await instanceOf(t, http.createServer(), options)
  const one = new Client(t, instance.inboundPort).send(proxyHeader(client, balancer))
  one.send('GET / HTTP/1.1\r\nHost: web\r\n\r\n')
  await one.untilText('403 Forbidden')
  await eventually(() => instance.lines.length === 1, 'the line')
  assert.equal(instance.lines[0]?.client, '203.0.113.9:40000')
})
