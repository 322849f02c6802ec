// A reload of the real processes under load: another supervisor with other workers takes over, and nobody notices.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { mkdirSync, readFileSync, renameSync, symlinkSync, writeFileSync } from 'node:fs'
import { Agent, request } from 'node:http'
import type { Socket } from 'node:net'
import { once } from 'node:events'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import { pathsUnder } from '../../src/paths.ts'
import { app, childrenOf, get, isAlive, main, prefix, serving, start, until } from './process.ts'

/** Callers with a keep-alive connection each that never stop, until told. */
class Load {
  done = 0
  readonly failed: string[] = []
  readonly agent: Agent
  readonly #loops: Promise<void>[]
  #isOver = false

  constructor(t: TestContext, port: number, callers = 8) {
    this.agent = new Agent({ keepAlive: true, maxSockets: callers })
    this.#loops = Array.from({ length: callers }, () => this.#call(port))
    t.after(() => this.stop())
  }

  async more(requests: number): Promise<void> {
    const end = this.done + requests
    await until(() => Promise.resolve(this.done >= end))
  }

  async stop(): Promise<void> {
    this.#isOver = true
    await Promise.all(this.#loops)
    this.agent.destroy()
  }

  async #call(port: number): Promise<void> {
    while (!this.#isOver) {
      const [status, body] = await get(port, '/', this.agent).catch((error: unknown) => [0, String(error)])
      if (status !== 200) this.failed.push(`${status} ${body}`)
      this.done++
    }
  }
}

const worker = join(dirname(main), 'worker.ts')

/** A release folder as on a host: the programs and the runtime. */
function release(dir: string, name: string, program = `import ${JSON.stringify(main)}\n`): void {
  const folder = join(dir, 'release', name)
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, 'proxy.mjs'), program)
  writeFileSync(join(folder, 'worker.mjs'), `import ${JSON.stringify(worker)}\n`)
  symlinkSync(process.execPath, join(folder, 'node'))
}

/** Makes it the release in use; the path of the program through the link. */
function use(dir: string, name: string): string {
  const link = join(dir, 'current')
  symlinkSync(join('release', name), `${link}.new`)
  renameSync(`${link}.new`, link)
  return join(link, 'proxy.mjs')
}

/** As `systemctl reload` does it: the status, and what it printed. */
async function reload(dir: string): Promise<[number, string]> {
  const child = spawn(process.execPath, [main, '--reload', '--prefix', dir], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, MESHCTL_LOG: 'info' },
  })
  let log = ''
  child.stderr.on('data', (chunk) => (log += chunk))
  const [status] = (await once(child, 'close')) as [number]
  return [status, log]
}

/** The pid of the supervisor that took over. */
async function reloaded(dir: string): Promise<number> {
  const [status, log] = await reload(dir)
  assert.equal(status, 0, log)
  return Number(/"pid":(\d+)/.exec(log)?.[1])
}

const programOf = (pid: number): string => readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')

async function metric(port: number, name: string): Promise<number> {
  const [, text] = await get(port, '/metrics')
  const values = [...text.matchAll(new RegExp(`^${name}(?:{.*})? (\\S+)$`, 'gm'))]
  return values.reduce((sum, [, value]) => sum + Number(value), 0)
}

/** An upgraded connection that is echoed by the application. */
async function upgraded(port: number): Promise<Socket> {
  const asked = request({
    host: '127.0.0.1',
    port,
    path: '/echo',
    agent: false,
    headers: { connection: 'Upgrade', upgrade: 'websocket' },
  })
  asked.end()
  const [, socket] = (await once(asked, 'upgrade')) as [unknown, Socket]
  return socket
}

async function echo(socket: Socket, word: string): Promise<void> {
  socket.write(word)
  const closed = once(socket, 'close').then(() => assert.fail('the connection was cut'))
  const [bytes] = (await Promise.race([once(socket, 'data'), closed])) as [Buffer]
  closed.catch(() => undefined)
  assert.equal(bytes.toString(), word)
}

test('reloads under load lose no request, no long connection, no count; then the old processes end', async (t) => {
  const dir = prefix(t)
  const port = await app(t)
  const proxy = await start(t, dir, port)
  const first = proxy.process.pid!
  const snapshot = serving(port)
  await proxy.push.send({ type: 'snapshot', snapshot })
  const socket = await upgraded(proxy.inbound)
  const load = new Load(t, proxy.inbound)
  await load.more(200)
  const before = childrenOf(first)

  const second = await reloaded(dir)
  assert.notEqual(second, first)
  await load.more(200)
  assert.equal(childrenOf(second).length, 2)
  assert.ok(childrenOf(second).every((pid) => !before.includes(pid)))
  await echo(socket, 'still there')
  // Doors: health, metrics, the agent's socket with the config in force.
  assert.equal((await get(proxy.health, '/healthz/ready'))[0], 200)
  assert.equal(await metric(proxy.prometheus, 'meshctl_proxy_workers'), 2)
  assert.equal(await metric(proxy.prometheus, 'meshctl_proxy_reloads_total'), 1)
  await load.stop()
  // Every answer was counted once, whoever gave it, the upgrade included.
  await until(async () => (await metric(proxy.prometheus, 'istio_requests_total')) >= load.done)
  assert.equal(await metric(proxy.prometheus, 'istio_requests_total'), load.done)
  assert.deepEqual(load.failed, [])

  // The long connection keeps its worker and its supervisor, and nothing else.
  await until(() => Promise.resolve(before.filter(isAlive).length === 1))
  assert.ok(isAlive(first))
  await echo(socket, 'and on')
  socket.destroy()
  assert.equal(await proxy.exit, 0)
  await until(() => Promise.resolve(!before.some(isAlive)))
  assert.equal(await metric(proxy.prometheus, 'istio_requests_total'), load.done + 1)

  // And once more, from the one that took over.
  const third = await reloaded(dir)
  await until(() => Promise.resolve(!isAlive(second)))
  assert.deepEqual(await get(proxy.inbound), [200, 'hello'])
  assert.equal(await metric(proxy.prometheus, 'istio_requests_total'), load.done + 2)
  process.kill(third, 'SIGTERM')
  await until(() => Promise.resolve(!isAlive(third)))
})

test('an upgrade under load: workers are of the release in use, and a broken release changes nothing', async (t) => {
  const dir = prefix(t)
  const port = await app(t)
  release(dir, 'one')
  release(dir, 'two')
  release(dir, 'broken', 'throw new Error("broken")\n')
  const proxy = await start(t, dir, port, { program: use(dir, 'one') })
  const first = proxy.process.pid!
  await proxy.push.send({ type: 'snapshot', snapshot: serving(port) })
  const load = new Load(t, proxy.inbound)
  await load.more(100)
  for (const pid of childrenOf(first)) assert.match(programOf(pid), /release\/one\/worker\.mjs/)

  use(dir, 'broken')
  const [status, log] = await reload(dir)
  assert.equal(status, 1)
  assert.match(log, /MSH0705.*the new release does not serve/)
  await load.more(100)
  assert.ok(((await proxy.push.send({ type: 'ping' })) as { workers: number }).workers === 2)

  use(dir, 'two')
  const second = await reloaded(dir)
  for (const pid of childrenOf(second)) assert.match(programOf(pid), /release\/two\/worker\.mjs/)
  assert.equal(await proxy.exit, 0)
  await load.more(100)
  await load.stop()
  assert.deepEqual(load.failed, [])
})

test('stopping while old connections linger gives them no more than a stop gives', async (t) => {
  const dir = prefix(t)
  const port = await app(t)
  const proxy = await start(t, dir, port, { workers: 1 })
  await proxy.push.send({ type: 'snapshot', snapshot: serving(port) })
  const socket = await upgraded(proxy.inbound)
  const second = await reloaded(dir)
  await echo(socket, 'still there')
  const cut = once(socket, 'close')
  socket.on('error', () => undefined)
  const stopped = performance.now()
  process.kill(second, 'SIGTERM')
  await cut
  assert.equal(await proxy.exit, 0)
  await until(() => Promise.resolve(!isAlive(second)))
  // The snapshot's drainTimeout is 2 s, lingering would be ten minutes.
  assert.ok(performance.now() - stopped < 15_000)
})

test('a stop in the middle of a reload ends both', async (t) => {
  const dir = prefix(t)
  const port = await app(t)
  const proxy = await start(t, dir, port, { workers: 1 })
  await proxy.push.send({ type: 'snapshot', snapshot: serving(port) })
  const answer = reload(dir)
  await until(() => Promise.resolve(proxy.log().includes('to take over')))
  proxy.process.kill('SIGTERM')
  const [status, log] = await answer
  assert.equal(status, 0, log)
  assert.equal(await proxy.exit, 0)
  await until(() => Promise.resolve(!isAlive(-proxy.process.pid!)))
})

test('what lingers ends after its time', async (t) => {
  const dir = prefix(t)
  const port = await app(t)
  const proxy = await start(t, dir, port, { workers: 1, more: ['--linger', '1'] })
  await proxy.push.send({ type: 'snapshot', snapshot: serving(port) })
  const socket = await upgraded(proxy.inbound)
  socket.on('error', () => undefined)
  await reloaded(dir)
  await once(socket, 'close')
  assert.equal(await proxy.exit, 0)
})

test('a killed worker harms its own connections only', async (t) => {
  const dir = prefix(t)
  const port = await app(t)
  const proxy = await start(t, dir, port)
  await proxy.push.send({ type: 'snapshot', snapshot: serving(port) })
  const pids = childrenOf(proxy.process.pid!)
  await until(async () => ((await proxy.push.send({ type: 'ping' })) as { workers: number }).workers === 2)
  const load = new Load(t, proxy.inbound, 16)
  await load.more(500)
  const victim = pids[0]!
  process.kill(victim, 'SIGKILL')
  const killed = performance.now()
  await until(() => Promise.resolve(childrenOf(proxy.process.pid!).some((pid) => !pids.includes(pid))))
  assert.ok(performance.now() - killed < 5000, 'replaced at once')
  await load.more(500)
  await load.stop()
  // One request of each connection that it held.
  assert.ok(load.failed.length <= 16, load.failed.join())
  assert.ok(isAlive(pids[1]!))
  const broken = load.failed.length
  t.diagnostic(`${broken} of ${load.done} requests`)
})

test('a worker that crashes tells what it has counted before it ends', async (t) => {
  const dir = prefix(t)
  const port = await app(t)
  const fault = join(dir, 'fault.mjs')
  const signal = `process.on('SIGWINCH', () => { throw new Error('planted') })`
  writeFileSync(fault, `if (process.argv[1].includes('worker')) ${signal}\n`)
  const proxy = await start(t, dir, port, { workers: 1, env: { NODE_OPTIONS: `--import=${fault}` } })
  await proxy.push.send({ type: 'snapshot', snapshot: serving(port) })
  for (let i = 0; i < 5; i++) assert.deepEqual(await get(proxy.inbound), [200, 'hello'])
  const [worker] = childrenOf(proxy.process.pid!)
  process.kill(worker!, 'SIGWINCH')
  await until(() => Promise.resolve(!isAlive(worker!)))
  await until(async () => (await metric(proxy.prometheus, 'meshctl_proxy_workers')) === 1)
  assert.equal(await metric(proxy.prometheus, 'istio_requests_total'), 5)
  assert.equal(await metric(proxy.prometheus, 'meshctl_proxy_worker_restarts_total'), 1)
})

test('nobody answers a reload where no proxy runs', async (t) => {
  const dir = prefix(t)
  mkdirSync(dirname(pathsUnder(dir).proxySocket), { recursive: true })
  const [status, log] = await reload(dir)
  assert.equal(status, 1)
  assert.match(log, /MSH0705.*ENOENT/)
})

test('a supervisor that makes way for the next one ends at once, its workers when they have finished', async (t) => {
  const dir = prefix(t)
  const port = await app(t)
  const proxy = await start(t, dir, port, { workers: 1 })
  await proxy.push.send({ type: 'snapshot', snapshot: serving(port) })
  const [worker] = childrenOf(proxy.process.pid!)
  const slow = get(proxy.inbound, '/?wait=1000')
  const socket = await upgraded(proxy.inbound)
  socket.on('error', () => undefined)
  process.kill(proxy.process.pid!, 'SIGUSR2')
  // As systemd does it when the command of ExecStop is over.
  process.kill(proxy.process.pid!, 'SIGTERM')
  assert.equal(await proxy.exit, 0)
  await assert.rejects(get(proxy.inbound), /ECONNREFUSED/)
  assert.ok(isAlive(worker!))
  await echo(socket, 'still there')
  assert.deepEqual(await slow, [200, 'hello'])
  socket.destroy()
  await until(() => Promise.resolve(!isAlive(worker!)))
})

test('when the supervisor is killed its workers serve until the next one is there', async (t) => {
  const dir = prefix(t)
  const port = await app(t)
  const proxy = await start(t, dir, port, { workers: 2 })
  await proxy.push.send({ type: 'snapshot', snapshot: serving(port) })
  const workers = childrenOf(proxy.process.pid!)
  const load = new Load(t, proxy.inbound, 4)
  await load.more(100)
  process.kill(proxy.process.pid!, 'SIGKILL')
  await proxy.exit
  await load.more(20)
  assert.deepEqual(await get(proxy.inbound), [200, 'hello'])
  await load.stop()
  assert.deepEqual(load.failed, [])
  await until(() => Promise.resolve(!workers.some(isAlive)))
})
