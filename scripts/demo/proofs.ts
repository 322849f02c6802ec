// What the demo proves, each with its own way to fail.
import type { Lab } from '../../test/lab/lab.ts'
import { ports } from '../../src/paths.ts'
import { loadFrom } from '../../test/lab/service.ts'
import { sleep, until } from '../../test/lab/shell.ts'
import { tap } from '../../test/lab/tap.ts'

export interface Proof {
  readonly name: string
  readonly holds: boolean
  /** The figures. */
  readonly lines: readonly string[]
}

export const url = 'http://web.default.mesh:8080/'
const client = 'vm3'
const user = 'shop'
const requests = 1000
/** Words to look for on the wire: one travels in a request header, one in the path, one in the answer's head and body. */
export const marker = {
  header: 'plain-text-header-7e1f',
  path: 'plain-text-path-a94c',
  body: 'plain-text-body-c03d',
} as const

const captured: { between?: Awaited<ReturnType<Awaited<ReturnType<typeof tap>>['stop']>> } = {}

/** 90/10 of 1,000 real connections; 4.5 standard deviations (σ = 9.5) are allowed. */
export async function proveSplit(lab: Lab, note: (text: string) => void): Promise<Proof> {
  await settled(lab)
  const between = await tap(lab, 'mesh', `host ${lab.host(client).address} and not port 22`)
  const each = `curl -s -m 10 -H 'x-secret: ${marker.header}' -w '%{http_code}\\n' '${url}${marker.path}?n={}'`
  const done = await lab.enter(client, `seq ${requests} | xargs -P 4 -I{} ${each}`, {
    user,
    timeoutMs: 180_000,
  })
  captured.between = await between.stop()
  const lines = done.stdout.trim().split('\n')
  const codes = lines.filter((line) => /^\d{3}$/.test(line))
  const ok = codes.filter((code) => code === '200').length
  const of = (version: string): number => lines.filter((line) => line.startsWith(`web ${version} `)).length
  const [v1, v2] = [of('v1'), of('v2')]
  note(`v1 ${v1}, v2 ${v2}`)
  return {
    name: `${requests} requests by plain curl from ${client} split 90/10`,
    holds: ok === requests && v1 + v2 === requests && Math.abs(v1 - requests * 0.9) <= 43,
    lines: [
      `asked for v1=90 v2=10; measured v1=${((v1 / requests) * 100).toFixed(1)} v2=${((v2 / requests) * 100).toFixed(1)}`,
      `${ok} of ${requests} answered 200; one curl process and one connection each`,
    ],
  }
}

/** Waits until the client's proxy uses the new route: at 50/50 fewer than 4 of 30 from v2 is one in 250,000. */
async function settled(lab: Lab): Promise<void> {
  await until(
    'the new route to reach the client',
    async () => {
      const done = await lab.enter(client, `curl -s -m 10 '${url}?n=[1-30]'`, { user })
      const v2 = done.stdout.split('\n').filter((line) => line.startsWith('web v2')).length
      return done.status === 0 && v2 < 8
    },
    { timeoutMs: 20_000, everyMs: 500 },
  )
}

export async function proveWire(lab: Lab): Promise<Proof> {
  const { between } = captured
  if (between === undefined) throw new Error('nothing was captured')
  const link = await between.count(ports.link)
  const app = await between.count(8080)
  const seen = Object.values(marker).map((word) => between.find(word))

  // The same words over plain HTTP between the same kind of hosts: a search that finds nothing must be able to find.
  const control = await tap(lab, 'plain', `host ${lab.host('control').address} and port 8080`)
  const address = lab.host('vm1').address
  await lab.do(
    'control',
    `curl -s -m 10 -H 'x-secret: ${marker.header}' http://${address}:8080/${marker.path}`,
  )
  const plain = await control.stop()
  const found = Object.values(marker).map((word) => plain.find(word))

  return {
    name: 'the wire between the hosts is encrypted',
    holds:
      link.bytes > 100_000 && app.packets === 0 && seen.every((n) => n === 0) && found.every((n) => n > 0),
    lines: [
      `captured on the bridge during the 1,000 requests: ${link.packets} packets, ${link.bytes} bytes on port ${ports.link}; ${app.packets} packets on port 8080`,
      `"${Object.values(marker).join('", "')}" found there: ${seen.join(', ')} times`,
      `the same search in a plain request from outside the mesh: ${found.join(', ')} times`,
    ],
  }
}

/** The caller as the server's proxy saw it (log) and as the application received it (header). */
export async function proveIdentity(lab: Lab): Promise<Proof> {
  const wanted = '/ns/default/sa/shop'
  const id = `identity-${Date.now()}`
  const headers = await lab.do(client, `for n in $(seq 20); do curl -s -m 10 '${url}headers?${id}'; done`, {
    user,
  })
  const xfcc =
    (JSON.parse(headers.split('\n')[0] ?? '{}') as Record<string, string>)['x-forwarded-client-cert'] ?? ''
  const forged = await lab.do(
    client,
    `curl -s -m 10 -H 'x-forwarded-client-cert: URI=spiffe://forged' '${url}headers?${id}'`,
    { user },
  )
  const line = await until('the access log of vm1 to show the request', async () => {
    const done = await lab.enter(
      'vm1',
      `grep -h '${id}' /var/log/meshctl/access.log | grep inbound | head -1`,
    )
    return done.stdout.trim() === '' ? null : done.stdout.trim()
  })
  const entry = JSON.parse(line) as {
    source?: string
    destination?: string
    mtls?: boolean
    reporter?: string
  }
  const source = entry.source ?? ''
  return {
    name: "the server knows who calls, from the caller's certificate",
    holds:
      source.endsWith(wanted) &&
      entry.mtls === true &&
      xfcc.includes(wanted) &&
      !forged.includes('spiffe://forged'),
    lines: [
      `access log of vm1: source ${source}, mtls ${String(entry.mtls)}`,
      `the application received x-forwarded-client-cert: ${xfcc}`,
      `a header forged by the caller reached the application: ${forged.includes('spiffe://forged') ? 'yes' : 'no'}`,
    ],
  }
}

/** Kills the application on vm2 with SIGKILL in the middle of a load. */
export async function proveKill(lab: Lab, note: (text: string) => void): Promise<Proof> {
  const workers = 8
  const seconds = 8
  await until('both versions to answer', async () => {
    const done = await lab.enter(client, `curl -s -m 10 '${url}?n=[1-30]'`, { user })
    return done.stdout.split('\n').filter((line) => line.startsWith('web v2')).length > 8
  })
  const load = loadFrom(lab, client, { user, url, seconds, workers })
  await sleep(3000)
  // The hosts share this machine's clock; how long it takes to get there and to ask systemd is no part of the kill.
  const killedAt = Number(await lab.do('vm2', 'systemctl kill --signal=SIGKILL web.service; date +%s%3N'))
  const result = await load
  // vm2 comes back only now, so that nothing of the second half was answered by it.
  await lab.do('vm2', 'systemctl reset-failed web.service; systemctl start web.service')
  const slackMs = 50
  const inFlight = result.failed.filter(({ began }) => began <= killedAt + slackMs)
  const later = result.failed.filter(({ began }) => began > killedAt + slackMs)
  note(`${result.sent} requests, ${result.failed.length} failed`)
  return {
    name: 'an instance killed under load costs at most the requests in flight on it',
    holds:
      later.length === 0 &&
      inFlight.length <= workers &&
      (result.versions['v2'] ?? 0) > 100 &&
      result.ok > 1000,
    lines: [
      `${result.sent} requests by ${workers} workers in ${seconds} s: v1 ${result.versions['v1'] ?? 0}, v2 ${result.versions['v2'] ?? 0}, p99 ${result.p99_ms} ms`,
      `SIGKILL to web on vm2 after 3 s: ${inFlight.length} in flight failed, ${later.length} later ones`,
      ...later.slice(0, 3).map(({ began, why }) => `${began - killedAt} ms after it: ${why}`),
    ],
  }
}
