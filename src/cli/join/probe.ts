// Looking from outside whether a host works after a change: the agent's word, names, its own mTLS port, a new SSH login.
import { systemClock, type Clock } from '../../clock.ts'
import { MeshError, reason } from '../../errors.ts'
import { quote, type Host } from '../../host/host.ts'
import { pathsUnder } from '../../paths.ts'
import type { HostConfig } from '../../model/host.ts'
import type { HostReport } from '../../registry/registry.ts'

const paths = pathsUnder()
const node = `LD_LIBRARY_PATH=${paths.current} ${paths.current}/node --disable-warning=ExperimentalWarning`

export interface AgentView {
  readonly report: HostReport
  readonly registry: { readonly connected: boolean; readonly registered: boolean }
}

/** Asks until it holds, then returns; throws MSH0512 with the last reason when the time is over. */
export async function until(
  what: string,
  timing: { timeoutMs: number; signal?: AbortSignal | undefined; clock?: Clock },
  ask: () => Promise<true | string>,
): Promise<void> {
  const clock = timing.clock ?? systemClock
  const end = clock.monotonic() + timing.timeoutMs
  let wait = 200
  for (;;) {
    if (timing.signal?.aborted === true) throw abortReason(timing.signal)
    const said = await ask()
    if (said === true) return
    if (clock.monotonic() + wait > end) throw new MeshError('MSH0512', `${what}: ${said}`)
    await new Promise<void>((resolve) => {
      const timer = clock.after(wait, resolve)
      timing.signal?.addEventListener('abort', () => (timer.cancel(), resolve()), { once: true })
    })
    wait = Math.min(wait * 1.5, 2000)
  }
}

export function abortReason(signal: AbortSignal): Error {
  const cause: unknown = signal.reason
  return cause instanceof MeshError ? cause : new MeshError('MSH0506', 'aborted', { cause })
}

/** One request on the agent's socket of the host; throws MSH0507 when nobody answers. */
export async function askAgent<T>(
  host: Host,
  ask: Record<string, unknown>,
  timeoutMs: number = 15_000,
): Promise<T> {
  const script = `
    const s = require('node:net').connect(${JSON.stringify(paths.agentSocket)}); let text = ''
    s.setTimeout(${timeoutMs}, () => { console.error('no answer'); process.exit(3) })
    s.on('error', (e) => { console.error(e.message); process.exit(3) })
    s.on('connect', () => s.write(${JSON.stringify(`${JSON.stringify(ask)}\n`)}))
    s.on('data', (d) => { text += d; if (text.includes('\\n')) { process.stdout.write(text); process.exit(0) } })
    s.on('close', () => process.exit(3))`
  const result = await host.run(`${node} -e ${quote(script)}`, { root: true, timeoutMs: timeoutMs + 10_000 })
  if (result.status !== 0) {
    throw new MeshError(
      'MSH0507',
      `${host.label}: the agent does not answer: ${result.stderr.trim().split('\n').at(-1) ?? ''}`,
    )
  }
  const said = JSON.parse(result.stdout) as { ok?: T; error?: string }
  if (said.ok === undefined)
    throw new MeshError('MSH0507', `${host.label}: agent: ${said.error ?? 'no reason given'}`)
  return said.ok
}

/** Ready: the proxy has the wanted snapshot, capture stands, and the services are in the registry. */
export async function agentReady(host: Host, config: HostConfig): Promise<true | string> {
  let view: AgentView
  try {
    view = await askAgent<AgentView>(host, { verb: 'status' })
  } catch (error) {
    if (error instanceof MeshError && error.code === 'MSH0501') throw error
    return await unitFailure(host, reason(error))
  }
  const { report, registry } = view
  const captured = config.capture.outbound !== 'off' || config.capture.inbound
  const problem = report.problems[0] === undefined ? '' : ` (${report.problems[0]})`
  if (report.proxy !== 'ok') return `the proxy is ${report.proxy}${problem}`
  if (captured && report.capture !== 'ok') return `capture is ${report.capture}${problem}`
  if (config.dns !== 'off' && report.dns !== 'ok') return `dns is ${report.dns}${problem}`
  if (!registry.registered) return `the registry does not have the services yet${problem}`
  return true
}

/** Why the units do not run, in their own last words. */
async function unitFailure(host: Host, fallback: string): Promise<string> {
  const log = await host.run(
    'for unit in meshctl-agent meshctl-proxy; do systemctl is-active --quiet $unit || journalctl -u $unit -n 3 -o cat --no-pager 2>/dev/null; done',
    { root: true, timeoutMs: 15_000 },
  )
  const last = log.stdout.trim().split('\n').at(-1) ?? ''
  return last === '' ? fallback : last.slice(0, 300)
}

/** Handshake with the host's own proxy by its services' names, DNS and rules, as the host itself sees them. */
export async function verifyHost(host: Host): Promise<true | string> {
  const result = await host.run(`${node} ${paths.current}/agent.js verify`, { root: true, timeoutMs: 60_000 })
  return result.status === 0 ? true : (result.stderr.trim().split('\n')[0] ?? '')
}

/** Whether the host's programs resolve a name of the mesh to a virtual address. */
export async function meshName(host: Host, name: string): Promise<true | string> {
  const result = await host.run(`getent ahostsv4 ${quote(name)}`, { timeoutMs: 20_000 })
  if (/^240\.240\.\d+\.\d+\s/m.test(result.stdout)) return true
  return `${name} resolves to ${result.stdout.trim().split(/\s+/)[0] || 'nothing'}`
}

/** A name outside the mesh that DNS (not /etc/hosts) knows now; null: none was found to compare with. */
export async function outsideName(host: Host, wanted: string | undefined): Promise<string | null> {
  const script = `
    for name in ${wanted === undefined ? '' : quote(wanted)} $(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | grep -v '^#' | sed -n 's#.*https*://\\([A-Za-z0-9.-]*\\).*#\\1#p' | sort -u | head -1) $(sed -n 's/^search *//p' /etc/resolv.conf) $(hostname -f 2>/dev/null); do
      case $name in *.mesh|localhost|*[!A-Za-z0-9.-]*) continue ;; esac
      if timeout 2 getent -s hosts:dns ahosts "$name" >/dev/null; then echo "$name"; exit; fi
    done; true`
  const found = (await host.run(script, { timeoutMs: 30_000 })).stdout.trim()
  return found === '' ? null : found
}

export async function stillResolves(host: Host, name: string): Promise<true | string> {
  const result = await host.run(`timeout 5 getent -s hosts:dns ahosts ${quote(name)}`, { timeoutMs: 20_000 })
  return result.status === 0 ? true : `${name} resolved before the join and does not now`
}

/** A whole new login, by a connection that the rules now in place have let through. */
export async function freshLogin(reconnect: () => Promise<Host>): Promise<true | string> {
  try {
    const second = await reconnect()
    const result = await second.run('echo in', { timeoutMs: 15_000 })
    second.close()
    return result.stdout.includes('in') ? true : 'a new SSH connection runs no commands'
  } catch (error) {
    return `a new SSH connection fails: ${reason(error)}`
  }
}
