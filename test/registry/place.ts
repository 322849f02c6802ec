// Registries to test against, and how tests wait for them.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { createWriteStream, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { consulBinary } from '../../scripts/consul.ts'
import { systemClock } from '../../src/clock.ts'
import { MeshError } from '../../src/errors.ts'
import { makeLog } from '../../src/log.ts'
import type { RegistryConfig } from '../../src/model/host.ts'
import { startEmbedded } from '../../src/registry/embedded/server.ts'
import type { Embedded, EmbeddedOptions } from '../../src/registry/embedded/server.ts'

export const quiet = makeLog('test', 'silent')
export const managementToken = '3c4a1f7e-0d52-4f4c-9a55-6a7d4a6f2f10'

/** What every host of these tests may say of itself. */
export const entitled = {
  address: '10.0.0.1',
  services: [{ name: 'web', namespace: 'default' }],
}

export interface Place {
  readonly url: string
  close(): Promise<void>
}

export function configFor(url: string, rest: Partial<RegistryConfig> = {}): RegistryConfig {
  return { url, token: null, ca: null, spiffe: null, localAgent: null, ...rest }
}

export function embedded(options: Partial<EmbeddedOptions> = {}): Promise<Embedded> {
  return startEmbedded({
    dbPath: ':memory:',
    host: '127.0.0.1',
    port: 0,
    managementToken,
    entitlementOf: () => entitled,
    log: quiet,
    clock: systemClock,
    ...options,
  })
}

export const code = (wanted: string) => (error: unknown) => {
  assert.ok(error instanceof MeshError, `not a MeshError: ${String(error)}`)
  assert.equal(error.code, wanted, error.message)
  return true
}

let count = 0
/** Names that no other test uses: the suite shares one registry. */
export const fresh = (word: string): string => `${word}-${process.pid}-${++count}`

/** Asks until it holds. The pause between two looks is not what is waited for. */
export async function eventually<T>(
  look: () => Promise<T | null | false | undefined> | T | null | false | undefined,
  what: string,
  withinMs: number = 30_000,
): Promise<T> {
  const end = Date.now() + withinMs
  for (;;) {
    const seen = await look()
    if (seen !== null && seen !== false && seen !== undefined) return seen
    if (Date.now() > end) throw new Error(`not within ${withinMs} ms: ${what}`)
    await sleep(20)
  }
}

/** A real Consul in development mode on loopback; `config` is laid on top of it. */
export async function startConsul(config: Record<string, unknown> = {}): Promise<Place & { tlsUrl: string }> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await tryConsul(config)
    } catch (error) {
      // Somebody else took one of the ports between our look and Consul's.
      if (attempt >= 2) throw error
    }
  }
}

async function tryConsul(config: Record<string, unknown>): Promise<Place & { tlsUrl: string }> {
  const folder = mkdtempSync(join(tmpdir(), 'consul-'))
  const [http, https, server, lan, wan] = await freePorts(5)
  writeFileSync(
    join(folder, 'consul.json'),
    JSON.stringify({
      node_name: 'consul-test',
      bind_addr: '127.0.0.1',
      client_addr: '127.0.0.1',
      session_ttl_min: '1s',
      disable_update_check: true,
      log_level: 'warn',
      ...config,
      ports: {
        http,
        https: 'cert_file' in config ? https : -1,
        server,
        serf_lan: lan,
        serf_wan: wan,
        dns: -1,
        grpc: -1,
      },
    }),
  )
  const log = join(folder, 'log')
  // Dies with this process, however that ends.
  const child = spawn(
    '/usr/bin/setpriv',
    ['--pdeathsig', 'KILL', consulBinary(), 'agent', '-dev', '-config-file', join(folder, 'consul.json')],
    {
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  )
  const output = createWriteStream(log)
  child.stdout.pipe(output)
  child.stderr.pipe(output)
  const close = async (): Promise<void> => {
    await end(child)
    rmSync(folder, { recursive: true, force: true })
  }
  const url = `http://127.0.0.1:${http}`
  try {
    await eventually(() => hasLeader(child, url, config), 'Consul has a leader', 20_000)
  } catch (error) {
    const text = readFileSync(log, 'utf8').slice(-2000)
    await close()
    throw new Error(`Consul did not start: ${text}`, { cause: error })
  }
  return { url, tlsUrl: `https://127.0.0.1:${https}`, close }
}

async function hasLeader(
  child: ChildProcess,
  url: string,
  config: Record<string, unknown>,
): Promise<boolean> {
  if (child.exitCode !== null) throw new Error(`Consul ended with ${child.exitCode}`)
  try {
    const headers = 'acl' in config ? { 'x-consul-token': managementToken } : {}
    // A write proves a leader, and the node's own check that the catalogue is ready.
    const health = await fetch(`${url}/v1/health/node/consul-test`, { headers })
    return health.status === 200 && (await health.text()).includes('serfHealth')
  } catch {
    return false
  }
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  child.kill('SIGKILL')
  await ended
}

async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer()
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
      return server
    }),
  )
  const ports = servers.map((server) => {
    const address = server.address()
    return address !== null && typeof address === 'object' ? address.port : 0
  })
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))))
  return ports
}
