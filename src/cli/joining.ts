// The work behind `meshctl join`: several hosts at once, each a transaction of its own.
import { MeshError, reason } from '../errors.ts'
import { gatherFacts } from '../host/facts.ts'
import { failed, type Finding } from '../host/finding.ts'
import { preflight } from '../host/preflight.ts'
import type { HostConfig } from '../model/host.ts'
import { listens, type ServiceDeclaration } from '../model/service.ts'
import { printData } from './output.ts'
import type { Cli } from './cli.ts'
import type { JoinCommandFlags } from './command/join.ts'
import { printFailure } from './failure.ts'
import { planHost } from './hostplan.ts'
import { readConfig } from './join/install.ts'
import { joinHost } from './join/join.ts'
import type { JoinPhase, JoinResult, PhaseState } from './join/types.ts'
import { Progress, type ProgressLine } from './progress.ts'
import { deregisterHost, isRegistered } from './registration.ts'
import { openRemote, readSshLogin, type Remote } from './remote.ts'
import { withSession, type Session } from './session.ts'

interface Outcome {
  readonly target: string
  readonly error: unknown
}

export async function joinHosts(
  cli: Cli,
  targets: readonly string[],
  flags: JoinCommandFlags,
  /** Null: nothing was said of them; a joined host keeps its own. */
  services: readonly ServiceDeclaration[] | null,
): Promise<void> {
  const ssh = await readSshLogin(cli.terminal, flags)
  await withSession(cli, async (session) => {
    // Nothing is touched on any host before control and registry have answered.
    const signer = await session.signer()
    await signer.status()
    await session.registry.leader()
    const progress = new Progress(cli.terminal)
    const { terminal } = progress
    const talking: Cli = { ...cli, terminal }
    const outcomes = await cli.guarded(async (signal) => {
      const waiting = targets.map((target) => ({ target, line: progress.line(target) }))
      const done: Outcome[] = []
      const worker = async (): Promise<void> => {
        for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
          const { target, line } = next
          try {
            line.step('connect')
            const remote = await openRemote(target, flags, ssh, terminal)
            try {
              await joinOne({ cli: talking, session, target, flags, services, remote, line, signal })
            } finally {
              remote.host.close()
            }
            done.push({ target, error: null })
          } catch (error) {
            // The failure of a single host is told in full below.
            line.end('failed', targets.length === 1 ? '' : reason(error))
            done.push({ target, error })
          }
        }
      }
      await Promise.all(Array.from({ length: flags.concurrency }, worker))
      return done
    })
    progress.close()
    tell(cli, outcomes)
  })
}

/** One failure is the command's own; of several, each is printed. */
function tell(cli: Cli, outcomes: readonly Outcome[]): void {
  const bad = outcomes.filter(({ error }) => error !== null)
  if (bad.length === 0) return
  if (outcomes.length === 1) throw bad[0]?.error
  for (const { target, error } of bad) {
    cli.terminal.say(`\n${target}:`)
    printFailure(cli.terminal, error, cli.globals().verbose)
  }
  throw new MeshError('MSH0110', `${bad.length} of ${outcomes.length} hosts did not join`, {
    hint: 'mend what is said above and run the same command again: hosts that joined stay as they are',
  })
}

interface Joining {
  readonly cli: Cli
  readonly session: Session
  readonly target: string
  readonly flags: JoinCommandFlags
  readonly services: readonly ServiceDeclaration[] | null
  readonly remote: Remote
  readonly line: ProgressLine
  readonly signal: AbortSignal
}

async function joinOne(joining: Joining): Promise<void> {
  const { cli, session, target, flags, remote, line, signal } = joining
  const { context, registry, mesh } = session
  line.step('facts')
  const facts = await gatherFacts(remote.host)
  const config = await planHost(
    {
      target,
      flags,
      services: joining.services ?? (await keptServices(joining)),
      mesh,
      trustDomain: context.trustDomain,
      signers: context.signers,
      registry: session.registryConfig,
      registryKind: context.registry.kind,
    },
    facts,
    remote.host,
  )
  if (flags.dryRun) {
    const findings = preflight(facts, {
      servicePorts: config.services.filter(listens).map(({ port }) => port),
      dns: config.dns,
      capture: config.capture.outbound !== 'off' || config.capture.inbound,
      users: config.services.flatMap(({ user }) => user ?? []),
      units: config.services.flatMap(({ unit }) => unit ?? []),
      mesh,
      host: config.host,
    })
    line.end(failed(findings) ? 'failed' : 'done', 'nothing was changed')
    printPlan(cli, target, config, findings)
    return
  }
  const signer = await session.signer()
  const roots = await session.roots()
  const named = config.services.map(({ name, namespace }) => ({ name, namespace }))
  // A host that control no longer signs for looks joined, and needs everything anew all the same.
  const record = (await signer.hosts()).find(({ host }) => host === config.host)
  const unsigned = record === undefined || record.revoked
  const result = await joinHost(
    remote.host,
    {
      config,
      sshHostKey: remote.hostKey,
      facts,
      requestGrant: async (sshHostKey) => {
        const request = {
          host: config.host,
          address: config.address,
          services: named,
          sshHostKey,
          replace: flags.replace,
        }
        return { grant: (await signer.grant(request)).grant, roots }
      },
      revoke: () => signer.revoke(config.host),
      entitle: async (before) => {
        await signer.entitlement(config.host, { services: before })
      },
      deregister: () => deregisterHost(registry, mesh, config.host),
      registered: () => isRegistered(registry, config),
      reconnect: remote.reconnect,
      timers: flags.timers,
      force: flags.force || unsigned,
      timeoutSeconds: flags.timeout,
      signal,
    },
    reporter(line),
  )
  finish(cli, line, config, result)
}

/** The services with which the host is joined to this mesh. */
async function keptServices({ cli, session, remote }: Joining): Promise<readonly ServiceDeclaration[]> {
  const before = await readConfig(remote.host)
  if (before === null || before.mesh !== session.mesh || before.services.length === 0) return []
  const names = before.services.map(({ name }) => name).join(', ')
  cli.terminal.say(`${before.host}: keeps its services: ${names} (--no-services takes them out)`)
  return before.services
}

function reporter(line: ProgressLine): (phase: JoinPhase, state: PhaseState, detail: string) => void {
  return (phase, state, detail) => {
    // The connection was opened, and told, before.
    if (state === 'start' && phase !== 'connect') line.step(phase, detail)
    else if (state === 'progress') line.detail(detail)
    else if (state === 'undo') line.undoing(detail)
  }
}

function finish(cli: Cli, line: ProgressLine, config: HostConfig, result: JoinResult): void {
  const served = config.services.map(({ name }) => name).join(', ')
  line.end('done', `${result.outcome} as ${config.host}${served === '' ? '' : ` with ${served}`}`)
  for (const finding of result.findings) {
    if (finding.level === 'ok') continue
    cli.terminal.say(`${config.host}: ${finding.subject}: ${finding.message}`)
    if (finding.hint !== '') cli.terminal.say(`  fix   ${finding.hint}`)
  }
  if (result.cron.length > 0) {
    cli.terminal.say(`${config.host}: no timers were installed; these lines for root's crontab do the same:`)
    for (const one of result.cron) cli.terminal.out(one)
  }
}

/** What would be done, as data; findings as talk. */
function printPlan(cli: Cli, target: string, config: HostConfig, findings: readonly Finding[]): void {
  const { terminal } = cli
  const { symbols } = terminal
  terminal.say(`${target}:`)
  for (const { level, subject, message, hint } of findings) {
    const mark = { ok: symbols.ok, warn: symbols.warn, error: symbols.bad }[level]
    terminal.say(`  ${mark} ${subject}: ${message}`)
    if (hint !== '') terminal.say(`      fix: ${hint}`)
  }
  const shown = {
    ...config,
    registry: {
      ...config.registry,
      token: config.registry.token === null ? null : '(secret)',
      ca: '(certificates)',
    },
  }
  printData(terminal, 'yaml', 'JoinPlan', { target, config: shown })
  if (failed(findings)) throw new MeshError('MSH0504', `${target} is not fit to join; nothing was changed`)
}
