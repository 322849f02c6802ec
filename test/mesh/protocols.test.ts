// From declarations and objects to bytes, for what is no HTTP: TLS passed through by server name, and a database that is told
// who calls.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import tls from 'node:tls'
import { declareServices } from '../../src/model/declaration.ts'
import { serviceSpiffe, type ServiceDeclaration } from '../../src/model/service.ts'
import { tlvTypes } from '../../src/wire/proxyprotocol.ts'
import { until } from '../agent/running.ts'
import { declared, destinationRule, subsets, virtualService } from '../compile/mesh.ts'
import { Authority } from '../proxy/hops.ts'
import { mysqlServer, mysqlSession, rowsOfAnswer } from '../proxy/mysql.ts'
import { Mesh } from './mesh.ts'
import { recorded } from './recorder.ts'
import type { Vm } from './vm.ts'

const foreign = new Authority('elsewhere.example')

function service(flag: string, address: string): ServiceDeclaration {
  const { services, problems } = declareServices({
    flags: [`${flag},bind=${address},check=tcp,interval=100ms`],
  })
  assert.deepEqual(problems, [])
  return services[0]!
}

/** The application listens; then the host joins with it and starts. */
async function start(vm: Vm, flag: string): Promise<void> {
  await vm.join([service(flag, vm.address)])
  await vm.startProxy()
  await vm.startAgent()
}

/** What the server at this name says of itself; the error's code where the connection fails. */
async function ask(vm: Vm, servername: string): Promise<string> {
  const address = await vm.resolve('vault.default.mesh')
  const port = await vm.proxy!.capture(1, { address, port: 443 })
  const socket = tls.connect({
    port,
    host: '127.0.0.1',
    servername,
    ca: foreign.roots,
    checkServerIdentity: () => undefined,
  })
  try {
    const [said] = (await once(socket, 'data')) as [Buffer]
    return said.toString()
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? 'failed'
  } finally {
    socket.destroy()
  }
}

recorded('a VirtualService routes TLS by its server name', async (recorder) => {
  await using mesh = await Mesh.start(recorder)
  using servers = new DisposableStack()
  for (const version of ['v1', 'v2']) {
    const vm = mesh.prepare(`vm-${version}`)
    const leaf = foreign.leaf('spiffe://elsewhere.example/ns/default/sa/vault')
    const server = tls.createServer({ key: leaf.key, cert: leaf.chain }, (socket) => {
      socket.on('error', () => {})
      socket.end(version)
    })
    servers.defer(() => server.close())
    server.listen(8200, vm.address)
    await once(server, 'listening')
    await start(vm, `vault,port=8200,service-port=443,protocol=https,version=${version}`)
  }
  const caller = await mesh.host('caller', [declared('shop', { port: 0, servicePort: 0 })])
  await mesh.put(destinationRule('vault', { host: 'vault', subsets }))
  const rule = (name: string, subset: string): object => ({
    match: [{ sniHosts: [name] }],
    route: [{ destination: { host: 'vault', subset } }],
  })
  await mesh.put(
    virtualService('vault', { hosts: ['vault'], tls: [rule('two.test', 'v2'), rule('*.test', 'v1')] }),
  )
  await until('DNS to know it', () => caller.resolve('vault.default.mesh').catch(() => null))
  await until('both to be known', async () => (await ask(caller, 'one.test')) === 'v1')
  await until('the rules to hold', async () => (await ask(caller, 'example.org')) === 'ECONNRESET')
  for (let i = 0; i < 5; i++) {
    assert.equal(await ask(caller, 'two.test'), 'v2')
    assert.equal(await ask(caller, 'one.test'), 'v1')
    assert.equal(await ask(caller, 'example.org'), 'ECONNRESET')
  }
})

recorded('a database speaks first and is told who calls', async (recorder) => {
  await using mesh = await Mesh.start(recorder)
  using servers = new DisposableStack()
  const { server, headers } = mysqlServer(true)
  servers.defer(() => server.close())
  const vm = mesh.prepare('vm1')
  server.listen(3306, vm.address)
  await once(server, 'listening')
  await start(vm, 'db,port=3306,protocol=mysql,proxy-protocol=send')
  const caller = await mesh.host('caller', [declared('shop', { port: 0, servicePort: 0 })])
  const address = await until('DNS to know it', () => caller.resolve('db.default.mesh').catch(() => null))
  const port = await caller.proxy!.capture(1, { address, port: 3306 })
  const session = await until('the database', () => mysqlSession(port, 'select 1').catch(() => null))
  assert.equal(session.rows.length, rowsOfAnswer)
  assert.deepEqual(headers.at(-1)?.tlvs, [
    { type: tlvTypes.principal, value: Buffer.from(serviceSpiffe('demo.mesh', 'default', 'shop')) },
  ])
  assert.equal(headers.at(-1)?.destination?.port, 3306)
})
