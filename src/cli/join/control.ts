// Installing the control process on a machine: release, user, its folder and unit. For `meshctl init`.
import { systemClock } from '../../clock.ts'
import { MeshError, reason } from '../../errors.ts'
import type { ControlConfig } from '../../api/signer.ts'
import { gatherFacts, type HostFacts } from '../../host/facts.ts'
import { quote, type Host } from '../../host/host.ts'
import { must } from '../../host/local.ts'
import { failed, unfit, type Finding } from '../../host/finding.ts'
import { installHint } from '../../host/preflight.ts'
import { prepareRelease, releaseFolder, sendRelease, template, useRelease } from '../../host/release.ts'
import { pathsUnder, units, users } from '../../paths.ts'
import { until } from './probe.ts'

export const controlPhases = ['connect', 'preflight', 'upload', 'prepare', 'files', 'start', 'probe'] as const
export type ControlPhase = (typeof controlPhases)[number]

export interface ControlInstall {
  readonly config: ControlConfig
  /** PEM: the mesh's roots, the issuing certificate, and the issuing key (PKCS #8, not encrypted). */
  readonly roots: string
  readonly issuing: string
  readonly issuingKey: string
  /** The release folder to send; default: the one this command runs from. */
  readonly release?: string | undefined
  readonly timeoutSeconds?: number | undefined
  /** Replaces config and certificates of a control that is there; its state stays. False: refuse. */
  readonly replace: boolean
  readonly facts?: HostFacts | undefined
  /** Fails on purpose at the end of this phase (tests). */
  readonly failAt?: ControlPhase | undefined
}

export interface ControlResult {
  readonly findings: readonly Finding[]
  readonly seconds: number
}

type Reporter = (
  phase: ControlPhase,
  state: 'start' | 'progress' | 'done' | 'skipped' | 'failed' | 'undo',
  detail: string,
) => void

const paths = pathsUnder()
const unitPath = `${paths.systemd}/${units.control}`
const defaultTimeoutSeconds = 30
const tools = ['systemctl', 'gzip', 'tar', 'sha256sum', 'getent', 'useradd', 'ss']

/** Throws MSH0504 (not fit), MSH0506 (failed; a first installation is removed again). Idempotent with `replace`. */
export async function installControl(
  host: Host,
  install: ControlInstall,
  report: Reporter,
): Promise<ControlResult> {
  const began = systemClock.monotonic()
  let phase: ControlPhase = 'connect'
  const did = { first: false, touched: false }
  let findings: Finding[] = []
  const step = async (name: ControlPhase, run: () => Promise<string | null>): Promise<void> => {
    phase = name
    report(name, 'start', '')
    const detail = await run()
    if (install.failAt === name) throw new MeshError('MSH0506', `made to fail at ${name}`)
    report(name, detail === null ? 'skipped' : 'done', detail ?? '')
  }
  try {
    await step('connect', async () => {
      await host.run('true', { timeoutMs: 20_000 })
      // A unit without its folder is what is left where somebody moved that away, as the hint below says.
      did.first = (await host.run(`[ -e ${paths.control} ]`, { root: true })).status !== 0
      if (!did.first && !install.replace) {
        throw new MeshError('MSH0504', `${host.label}: there is a control process already`, {
          hint: `to set it up anew: systemctl disable --now ${units.control}, and move ${paths.control} away`,
        })
      }
      return host.label
    })
    const facts = install.facts ?? (await gatherFacts(host))
    await step('preflight', () => {
      findings = controlPreflight(facts, install.config, did.first)
      if (failed(findings)) throw unfit(host.label, findings)
      return Promise.resolve('all well')
    })
    const release = await prepareRelease(install.release ?? releaseFolder(), facts.arch)
    did.touched = true
    await step('upload', async () => {
      const sent = await sendRelease(host, release, (done, total) =>
        report('upload', 'progress', `${(done / 1e6).toFixed(1)} of ${(total / 1e6).toFixed(1)} MB`),
      )
      await useRelease(host, release)
      return sent ? `release ${release.version}` : null
    })
    await step('prepare', async () => {
      await makeUser(host)
      return users.control
    })
    await step('files', async () => {
      await writeFiles(host, install)
      await host.put(unitPath, await template(release.folder, units.control), { mode: 0o644 })
      await host.put(paths.command, await template(release.folder, 'meshctl'), { mode: 0o755 })
      await must(host, 'reload systemd', 'systemctl daemon-reload')
      return 'issuing certificate and config'
    })
    await step('start', async () => {
      await must(
        host,
        'start control',
        `systemctl enable --quiet ${units.control} && systemctl restart ${units.control}`,
        {
          timeoutMs: 60_000,
        },
      )
      return units.control
    })
    await step('probe', async () => {
      const timeoutMs = (install.timeoutSeconds ?? defaultTimeoutSeconds) * 1000
      await until('control did not start', { timeoutMs }, () => listening(host, install.config))
      return `ports ${controlPorts(install.config).join(', ')}`
    })
    return { findings, seconds: (systemClock.monotonic() - began) / 1000 }
  } catch (error) {
    report(phase, 'failed', reason(error))
    const cause =
      error instanceof MeshError ? error : new MeshError('MSH0507', reason(error), { cause: error })
    if (!did.touched) throw cause
    const details = [...cause.details]
    if (did.first) {
      report(phase, 'undo', '')
      const removed = await removeControl(host).then(
        () => 'everything was removed again',
        (undoing: unknown) => `removing it failed: ${reason(undoing)}`,
      )
      details.push(removed)
    }
    throw new MeshError('MSH0506', `${host.label}: ${phase}: ${cause.message}`, {
      hint: cause.hint,
      details,
      cause: error,
    })
  }
}

/** Stops control and removes it with its state and issuing key. Idempotent. What a joined host needs stays. */
export async function removeControl(host: Host): Promise<void> {
  await must(
    host,
    'remove control',
    `systemctl disable --quiet --now ${units.control} 2>/dev/null; rm -f ${unitPath} ${paths.systemd}/*.wants/${units.control}; ` +
      `systemctl daemon-reload; systemctl reset-failed ${units.control} 2>/dev/null; rm -rf ${paths.control}; ` +
      `if getent passwd ${users.control} >/dev/null; then userdel ${users.control}; fi; ` +
      `if [ ! -e ${paths.hostConfig} ]; then rm -rf ${paths.opt}; rm -f ${paths.command}; fi; true`,
    { timeoutMs: 60_000 },
  )
}

/** Pure, as the preflight of a host. */
export function controlPreflight(facts: HostFacts, config: ControlConfig, first: boolean): Finding[] {
  const findings: Finding[] = []
  const error = (subject: string, message: string, hint: string): void => {
    findings.push({ level: 'error', subject, message, hint })
  }
  if (!facts.root)
    error('root', `no root rights: ${facts.rootReason}`, 'log in as root or as a user with sudo')
  if (facts.arch !== 'x64' && facts.arch !== 'arm64')
    error('machine', `architecture ${facts.arch} has no runtime`, 'use x86_64 or aarch64')
  if (facts.systemd === null)
    error('systemd', 'the host does not run systemd', 'use a host that boots with systemd')
  for (const tool of tools.filter((name) => facts.missingTools.includes(name))) {
    error('tools', `${tool} is missing`, installHint(facts.os, [tool]))
  }
  if (Math.abs(facts.clockSkewMs) > 30_000) {
    error('clock', `the clock is ${(facts.clockSkewMs / 1000).toFixed(1)} s off`, 'timedatectl set-ntp true')
  }
  for (const port of first ? controlPorts(config) : []) {
    const taken = facts.listeners.find((listener) => listener.port === port)
    if (taken !== undefined)
      error(
        `port ${port}`,
        `${taken.process || 'another program'} listens there`,
        'stop it, or choose another port',
      )
  }
  if (findings.length === 0)
    findings.push({ level: 'ok', subject: 'control', message: 'the host can run control', hint: '' })
  return findings
}

function controlPorts(config: ControlConfig): number[] {
  return config.embedded === null ? [config.signerPort] : [config.signerPort, config.embedded.port]
}

async function makeUser(host: Host): Promise<void> {
  const user = users.control
  await must(
    host,
    `make the user ${user}`,
    `getent passwd ${user} >/dev/null || useradd --system --user-group --no-create-home --home-dir /nonexistent ` +
      `--shell "$(PATH=$PATH:/usr/sbin:/sbin command -v nologin || echo /bin/false)" ${user}`,
  )
  await must(
    host,
    'make the folders',
    `umask 077; mkdir -p ${paths.control}/ca ${paths.control}/state /usr/local/bin && chown ${user}:${user} ${paths.control} ${paths.control}/ca ${paths.control}/state`,
  )
}

async function writeFiles(host: Host, install: ControlInstall): Promise<void> {
  const owner = `${users.control}:${users.control}`
  const put = async (name: string, text: string, mode: number): Promise<void> =>
    await host.put(`${paths.control}/${name}`, text, { mode, owner })
  await put('ca/roots.pem', install.roots, 0o644)
  await put('ca/issuing.pem', install.issuing, 0o644)
  await put('ca/issuing.key', install.issuingKey, 0o600)
  await put('control.json', `${JSON.stringify(install.config, null, 2)}\n`, 0o600)
}

/** All ports are open and the unit has stayed up; else its last words. */
async function listening(host: Host, config: ControlConfig): Promise<true | string> {
  const wanted = controlPorts(config)
  const asked = await host.run(`systemctl is-active ${units.control}; ss -Hltn`, {
    root: true,
    timeoutMs: 15_000,
  })
  const [state = '', ...sockets] = asked.stdout.split('\n')
  const open = wanted.filter((port) => sockets.some((line) => line.includes(`:${port} `)))
  if (state.trim() === 'active' && open.length === wanted.length) return true
  const log = await host.run(`journalctl -u ${quote(units.control)} -n 3 -o cat --no-pager`, {
    root: true,
    timeoutMs: 15_000,
  })
  return (log.stdout.trim().split('\n').at(-1) ?? `unit is ${state}`).slice(0, 300)
}
