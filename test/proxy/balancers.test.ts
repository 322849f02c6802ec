// PROXY headers with the balancers that made and read them first: HAProxy and nginx, where they are installed.
import http from 'node:http'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import { Authority, Caller, Client, Instance, listen } from './hops.ts'
import { freePort, isThere, nginx, run } from './program.ts'

const authority = new Authority()

const haproxy = (t: TestContext, port: number, config: string): Promise<void> =>
  run(
    t,
    port,
    `defaults\n  timeout connect 5s\n  timeout client 5s\n  timeout server 5s\n${config}`,
    (file) => ['haproxy', '-db', '-f', file],
  )

/** Says what its proxy says of the client. */
const forwarded = (): http.Server =>
  http.createServer((request, response) =>
    response.end(`from ${String(request.headers['x-forwarded-for'])}.`),
  )

const get = 'GET / HTTP/1.1\r\nHost: web\r\n\r\n'

test('what HAProxy sends is taken', { skip: !isThere('haproxy') }, async (t) => {
  const options = { protocol: 'http', proxyProtocol: { accept: true, send: false } } as const
  const instance = await new Instance(t, await listen(t, forwarded()), options).start(authority)
  for (const flag of [
    'send-proxy',
    'send-proxy-v2',
    'send-proxy-v2-ssl-cn proxy-v2-options crc32c,unique-id',
  ]) {
    const port = await freePort()
    await haproxy(
      t,
      port,
      `frontend in
  mode tcp
  bind 127.0.0.1:${port}
  unique-id-format %[uuid]
  default_backend mesh
backend mesh
  mode tcp
  source 127.0.0.3
  server s 127.0.0.1:${instance.inboundPort} ${flag}
`,
    )
    const client = new Client(t, port, '127.0.0.7').send(get)
    await client.untilText('from 127.0.0.7.')
  }
})

test('what is sent is taken by HAProxy', { skip: !isThere('haproxy') }, async (t) => {
  const port = await freePort()
  const answer = 'from %[src] %[src_port] to %[dst] %[dst_port].'
  await haproxy(
    t,
    port,
    `frontend in
  mode http
  bind 127.0.0.1:${port} accept-proxy
  http-request return status 200 content-type text/plain lf-string "${answer}"
`,
  )
  const options = { protocol: 'tcp', proxyProtocol: { accept: false, send: true } } as const
  const instance = await new Instance(t, port, options).start(authority)
  const client = new Client(t, instance.inboundPort, '127.0.0.7').send(get)
  await client.untilText('.')
  await client.untilText(`from 127.0.0.7 ${client.socket.localPort} to 127.0.0.1 ${port}.`)
  // Of a caller in the mesh its host's address.
  const caller = await new Caller(t).start(authority, {
    protocol: 'tcp',
    subsets: [{ name: '', weight: 1, endpoints: [instance.endpoint()] }],
  })
  await new Client(t, caller.port, '127.0.0.9').send(get).untilText('from 127.0.0.1 ')
})

test('what is sent is taken by nginx', { skip: !isThere('nginx') }, async (t) => {
  const port = await freePort()
  const server = `server {
    listen 127.0.0.1:${port} proxy_protocol;
    return 200 "from $proxy_protocol_addr to $proxy_protocol_server_addr $proxy_protocol_server_port.";
  }`
  await nginx(t, port, server)
  const options = { protocol: 'tcp', proxyProtocol: { accept: false, send: true } } as const
  const instance = await new Instance(t, port, options).start(authority)
  const client = new Client(t, instance.inboundPort, '127.0.0.7').send(get)
  await client.untilText(`from 127.0.0.7 to 127.0.0.1 ${port}.`)
})
