// The real process on loopback: supervisor, workers, engine, push socket, health and metrics, without root and systemd.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { Agent } from 'node:http'
import { BoundSocket, createServer as createTcpServer } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { MeshError } from '../../src/errors.ts'
import { pathsUnder } from '../../src/paths.ts'
import { readOptions } from '../../src/proxy/options.ts'
import { askReload } from '../../src/proxy/push.ts'
import { diff } from '../../src/snapshot/change.ts'
import { connectPush } from '../../src/snapshot/push.ts'
import { app, childrenOf, get, isAlive, main, prefix, serving, start, until } from './process.ts'
import { emptySnapshot } from './snapshots.ts'

test('push, serve, reject, ready, metrics, access log', async (t) => {
  const dir = prefix(t)
  const port = await app(t)
  const proxy = await start(t, dir, port)
  assert.equal((await get(proxy.health, '/healthz/ready'))[0], 503)
  const snapshot = serving(port)
  assert.deepEqual(await proxy.push.send({ type: 'snapshot', snapshot }), {
    type: 'applied',
    hash: snapshot.hash,
  })
  assert.equal((await get(proxy.health, '/healthz/ready'))[0], 200)
  assert.deepEqual(await get(proxy.inbound), [200, 'hello'])

  const bad = { ...snapshot, mesh: 'changed behind its hash' }
  assert.equal((await proxy.push.send({ type: 'snapshot', snapshot: bad })).type, 'rejected')
  assert.deepEqual(await get(proxy.inbound), [200, 'hello'])
  const pong = await proxy.push.send({ type: 'ping' })
  assert.ok(pong.type === 'pong' && pong.hash === snapshot.hash && pong.workers >= 1)

  const [, text] = await get(proxy.prometheus, '/metrics')
  const counted = [...text.matchAll(/^istio_requests_total\{.*\} (\d+)$/gm)].reduce(
    (sum, [, n]) => sum + Number(n),
    0,
  )
  assert.equal(counted, 2)
  assert.match(text, /^meshctl_proxy_workers [12]$/m)
  assert.match(text, /^# TYPE process_cpu_seconds_total counter$/m)
  assert.match(text, /^# TYPE meshctl_proxy_access_log_dropped_lines_total counter$/m)
  // As Prometheus wants it: what only grows says so in its name, and nothing else does.
  for (const [, name, kind] of text.matchAll(/^# TYPE (\S+) (\S+)$/gm))
    assert.equal(name?.endsWith('_total'), kind === 'counter', String(name))
  const log = pathsUnder(dir).accessLog
  await until(async () => readFileSync(log, 'utf8').trim().split('\n').length === 2)
  for (const line of readFileSync(log, 'utf8').trim().split('\n')) JSON.parse(line)
})

test('a killed worker is replaced while the others serve', async (t) => {
  const port = await app(t)
  const proxy = await start(t, prefix(t), port)
  const pid = proxy.process.pid!
  await proxy.push.send({ type: 'snapshot', snapshot: serving(port) })
  await until(async () => ((await proxy.push.send({ type: 'ping' })) as { workers: number }).workers === 2)
  const [victim, other] = childrenOf(pid)
  process.kill(victim!, 'SIGKILL')
  for (let i = 0; i < 20; i++)
    assert.deepEqual(await get(proxy.inbound).catch(() => get(proxy.inbound)), [200, 'hello'])
  await until(async () => ((await proxy.push.send({ type: 'ping' })) as { workers: number }).workers === 2)
  assert.ok(childrenOf(pid).includes(other!))
  assert.ok(!childrenOf(pid).includes(victim!))
  assert.match((await get(proxy.prometheus, '/metrics'))[1], /^meshctl_proxy_worker_restarts_total 1$/m)
})

test('patches reach a real worker while requests run; a killed worker and a successor begin with what they gave', async (t) => {
  const dir = prefix(t)
  const port = await app(t)
  const proxy = await start(t, dir, port, { workers: 2 })
  let now = serving(port)
  await proxy.push.send({ type: 'snapshot', snapshot: now })
  for (let i = 0; i < 60; i++) {
    assert.deepEqual(await get(proxy.inbound), [200, 'hello'])
    if (i % 4 !== 0) continue
    const [service] = now.inbound
    const next = emptySnapshot('vm1', { inbound: [{ ...service!, version: `v${i}` }] })
    const change = diff(now, next)!
    const patching = { type: 'patch', base: now.hash, hash: next.hash, change } as const
    assert.deepEqual(await proxy.push.send(patching), { type: 'applied', hash: next.hash })
    // The base is gone: the same patch again is for another snapshot.
    assert.deepEqual(await proxy.push.send(patching), { type: 'mismatch', hash: next.hash })
    now = next
  }
  const [victim] = childrenOf(proxy.process.pid!)
  process.kill(victim!, 'SIGKILL')
  await until(async () => {
    const children = childrenOf(proxy.process.pid!)
    return children.length === 2 && !children.includes(victim!)
  })
  for (let i = 0; i < 6; i++) assert.deepEqual(await get(proxy.inbound), [200, 'hello'])
  const reloaded = await askReload(pathsUnder(dir).proxySocket, 30_000)
  assert.ok(reloaded.type === 'reloaded', JSON.stringify(reloaded))
  const push = connectPush(pathsUnder(dir).proxySocket)
  t.after(() => push.close())
  const pong = await push.send({ type: 'ping' })
  assert.ok(pong.type === 'pong' && pong.hash === now.hash)
  assert.deepEqual(await get(proxy.inbound), [200, 'hello'])
})

test('it starts from the last good state on disk, without an agent', async (t) => {
  const dir = prefix(t)
  const port = await app(t)
  const snapshot = serving(port)
  writeFileSync(join(pathsUnder(dir).proxyState, 'snapshot.json'), JSON.stringify(snapshot))
  const proxy = await start(t, dir, port, { workers: 1 })
  await until(async () => (await get(proxy.health, '/healthz/ready'))[0] === 200)
  assert.deepEqual(await get(proxy.inbound), [200, 'hello'])
})

test('on a socket of systemd nothing is lost over a restart: callers wait in its queue', async (t) => {
  const dir = prefix(t)
  const port = await app(t)
  writeFileSync(join(pathsUnder(dir).proxyState, 'snapshot.json'), JSON.stringify(serving(port)))
  const bound = new BoundSocket({ host: '127.78.0.1', port: 15006 })
  const fd = bound.fd()
  const holder = createTcpServer()
  await new Promise<void>((resolve) => holder.listen(bound, resolve))
  const proxy = await start(t, dir, port, { workers: 1, inherited: fd })
  // From here on only the shell that starts the proxy holds the socket.
  holder.close()
  assert.equal(proxy.inbound, 15006)
  const [first] = childrenOf(proxy.process.pid!)
  process.kill(first!, 'SIGKILL')
  for (let i = 0; i < 5; i++) {
    // A worker that outlives its supervisor may still answer; then the next one does. Nobody is refused.
    assert.deepEqual(await get(15006, '/', false, '127.78.0.1'), [200, 'hello'])
  }
  await until(async () => childrenOf(proxy.process.pid!)[0] !== first)
  assert.deepEqual(await get(15006, '/', false, '127.78.0.1'), [200, 'hello'])
})

test('what a worker has for the log is written by the supervisor, with the pid of the worker', async (t) => {
  const dir = prefix(t)
  const port = await app(t)
  mkdirSync(pathsUnder(dir).accessLog)
  const proxy = await start(t, dir, port, { workers: 1 })
  await proxy.push.send({ type: 'snapshot', snapshot: serving(port) })
  const [worker] = childrenOf(proxy.process.pid!)
  assert.deepEqual(await get(proxy.inbound), [200, 'hello'])
  await until(() => Promise.resolve(proxy.log().includes('access log cannot be written')))
  const line = proxy
    .log()
    .split('\n')
    .find((one) => one.includes('access log cannot be written'))
  const { level, pid, reason } = JSON.parse(line!) as { level: string; pid: number; reason: string }
  assert.deepEqual([level, pid], ['warn', worker])
  assert.match(reason, /EISDIR/)
})

test('a broken state on disk is left alone: it starts and waits for a push', async (t) => {
  const dir = prefix(t)
  const port = await app(t)
  writeFileSync(join(pathsUnder(dir).proxyState, 'snapshot.json'), '{"schema":1,"ha')
  const proxy = await start(t, dir, port, { workers: 1 })
  assert.equal((await proxy.push.send({ type: 'snapshot', snapshot: serving(port) })).type, 'applied')
  assert.deepEqual(await get(proxy.inbound), [200, 'hello'])
})

test('SIGTERM drains: what runs is answered, nothing new is taken, the status is 0', async (t) => {
  const port = await app(t)
  const proxy = await start(t, prefix(t), port, { workers: 1 })
  await proxy.push.send({ type: 'snapshot', snapshot: serving(port) })
  const agent = new Agent({ keepAlive: true })
  t.after(() => agent.destroy())
  await get(proxy.inbound, '/', agent)
  const slow = get(proxy.inbound, '/?wait=500', agent)
  await until(async () => (await get(proxy.prometheus, '/metrics'))[0] === 200)
  proxy.process.kill('SIGTERM')
  assert.deepEqual(await slow, [200, 'hello'])
  assert.equal(await proxy.exit, 0)
  await assert.rejects(get(proxy.inbound))
})

test('when the supervisor is killed its workers end', async (t) => {
  const port = await app(t)
  const proxy = await start(t, prefix(t), port, { workers: 1 })
  await proxy.push.send({ type: 'snapshot', snapshot: serving(port) })
  const workers = childrenOf(proxy.process.pid!)
  proxy.process.kill('SIGKILL')
  await proxy.exit
  await until(async () => workers.every((pid) => !isAlive(pid)))
})

test('a stop in the middle of the start ends it in order and leaves no worker', async (t) => {
  const flags = ['--outbound', '--health', '--prometheus'].flatMap((flag) => [flag, '127.0.0.1:0'])
  const child = spawn(process.execPath, [main, '--workers', '2', '--prefix', prefix(t), ...flags], {
    stdio: 'ignore',
  })
  const ended = once(child, 'exit')
  let workers: number[] = []
  await until(() => Promise.resolve((workers = childrenOf(child.pid!)).length > 0))
  child.kill('SIGTERM')
  assert.deepEqual(await ended, [0, null])
  await until(() => Promise.resolve(!workers.some(isAlive)))
})

test('a start that makes no sense ends at once, with a code', async () => {
  const child = spawn(process.execPath, [main, '--workers', '1'], { stdio: ['ignore', 'ignore', 'pipe'] })
  let log = ''
  child.stderr.on('data', (chunk) => (log += chunk))
  const status = await new Promise((resolve) => child.on('close', resolve))
  assert.equal(status, 64)
  assert.match(log, /MSH0703.*there are no sockets to serve/)
})

test('options', () => {
  for (const [args, message] of [
    [['--workers', '0'], /--workers 0/],
    [['--workers', 'x'], /--workers x/],
    [['--nonsense'], /nonsense/],
    [['--inbound', 'x'], /--inbound x is not address:port/],
    [['--link', '127.0.0.1:65536'], /--link/],
  ] as const) {
    assert.throws(
      () => readOptions(args),
      (error) => error instanceof MeshError && error.code === 'MSH0703' && message.test(error.message),
    )
  }
  const options = readOptions([
    '--prefix',
    '/p',
    '--inbound',
    '[::1]:1',
    '--inbound',
    '0.0.0.0:2',
    '--workers',
    '3',
  ])
  assert.deepEqual(options.bind, [
    { role: 'inbound', host: '::1', port: 1 },
    { role: 'inbound', host: '0.0.0.0', port: 2 },
  ])
  assert.equal(options.workers, 3)
  assert.equal(options.paths.proxySocket, '/p/run/meshctl/proxy/proxy.sock')
  assert.deepEqual(options.health, { host: '', port: 15021 })
  assert.equal(options.destination, null)
})
