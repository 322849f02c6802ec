// The work behind `meshctl leave`.
import { MeshError, reason } from '../errors.ts'
import type { Host } from '../host/host.ts'
import { isName } from '../model/name.ts'
import { isRecord } from '../model/problem.ts'
import { pathsUnder } from '../paths.ts'
import { confirm } from './ask.ts'
import type { Cli } from './cli.ts'
import type { LeaveFlags } from './command/leave.ts'
import { printFailure } from './failure.ts'
import { leaveHost } from './join/leave.ts'
import type { LeavePhase, LeaveResult, PhaseState } from './join/types.ts'
import { Progress, type ProgressLine } from './progress.ts'
import { deregisterHost } from './registration.ts'
import { hostPart, openRemote, readSshLogin } from './remote.ts'
import { withSession, type Session } from './session.ts'

const shownOthers = 10

export async function leaveHosts(cli: Cli, targets: readonly string[], flags: LeaveFlags): Promise<void> {
  if (targets.length > 1 && flags.name !== undefined)
    throw new MeshError('MSH0101', '--name is for one host at a time')
  const { terminal } = cli
  if (flags.dryRun) {
    for (const target of targets) {
      terminal.out(
        `${target}: would drain for ${flags.drain} s, deregister, revoke, remove everything, compare`,
      )
    }
    return
  }
  if (!(await confirm(terminal, flags.yes, `take ${targets.join(', ')} out of the mesh?`))) {
    throw new MeshError('MSH0102', 'aborted, no changes made')
  }
  const ssh = await readSshLogin(terminal, flags)
  await withSession(cli, async (session) => {
    const progress = new Progress(terminal)
    const failures: { target: string; error: unknown }[] = []
    await cli.guarded(async (signal) => {
      await Promise.all(
        targets.map(async (target) => {
          const line = progress.line(target)
          try {
            line.step('connect')
            const remote = await openRemote(target, flags, ssh, progress.terminal).catch((error: unknown) => {
              if (!(error instanceof MeshError)) throw error
              if (flags.force) return error
              if (error.code !== 'MSH0501') throw error
              throw new MeshError('MSH0501', error.message, {
                hint: `${error.hint ?? ''}; if it is gone for good: meshctl leave ${target} --force`,
                cause: error.cause,
              })
            })
            if (remote instanceof MeshError)
              await forget({ ...cli, terminal: progress.terminal }, session, target, flags, line, remote)
            else {
              try {
                await leaveOne(
                  { ...cli, terminal: progress.terminal },
                  session,
                  remote.host,
                  target,
                  flags,
                  line,
                  signal,
                )
              } finally {
                remote.host.close()
              }
            }
          } catch (error) {
            // The failure of a single host is told in full below.
            line.end('failed', targets.length === 1 ? '' : reason(error))
            failures.push({ target, error })
          }
        }),
      )
    })
    progress.close()
    if (failures.length === 0) return
    if (targets.length === 1) throw failures[0]?.error
    for (const { target, error } of failures) {
      terminal.say(`\n${target}:`)
      printFailure(terminal, error, cli.globals().verbose)
    }
    throw new MeshError('MSH0110', `${failures.length} of ${targets.length} hosts did not leave`)
  })
}

async function leaveOne(
  cli: Cli,
  session: Session,
  host: Host,
  target: string,
  flags: LeaveFlags,
  line: ProgressLine,
  signal: AbortSignal,
): Promise<void> {
  // Without host.json nothing is joined there; the name given, if any, is still taken out of the mesh.
  const name = flags.name ?? (await ownName(host))
  const result = await leaveHost(
    host,
    {
      drainSeconds: flags.drain,
      revoke: name === null ? null : async () => (await session.signer()).revoke(name),
      deregister: name === null ? null : () => deregisterHost(session.registry, session.mesh, name),
      signal,
    },
    reporter(line),
  )
  finish(cli, target, line, result)
}

function finish(cli: Cli, target: string, line: ProgressLine, result: LeaveResult): void {
  for (const warning of result.warnings) cli.terminal.say(`${target}: warning: ${warning}`)
  if (!result.left) {
    line.end('done', 'there was nothing of meshctl')
    return
  }
  if (result.others.length > 0) {
    const { length } = result.others
    const shown = result.others.slice(0, shownOthers)
    cli.terminal.say(`${target}: changed by others since the join, and left alone:`)
    for (const change of shown) cli.terminal.say(`  ${change}`)
    if (length > shown.length) cli.terminal.say(`  and ${length - shown.length} more`)
  }
  if (result.differences.length === 0) {
    const but = result.others.length === 0 ? '' : ', but for what others changed'
    line.end('done', `left; the host is as it was before the join${but}`)
    return
  }
  line.end('failed', 'left, with differences')
  throw new MeshError('MSH0511', `${target} is not exactly as it was before the join`, {
    details: result.differences,
  })
}

function reporter(line: ProgressLine): (phase: LeavePhase, state: PhaseState, detail: string) => void {
  return (phase, state, detail) => {
    // The connection was opened, and told, before.
    if (state === 'start' && phase !== 'connect') line.step(phase, detail)
    else if (state === 'progress') line.detail(detail)
    else if (state === 'undo') line.undoing(detail)
  }
}

/** The name under which the host joined, as it says itself. */
async function ownName(host: Host): Promise<string | null> {
  const text = await host.get(pathsUnder().hostConfig, { root: true })
  if (text === null) return null
  try {
    const config: unknown = JSON.parse(text.toString('utf8'))
    if (isRecord(config) && typeof config['host'] === 'string') return config['host']
  } catch {
    // A damaged file says nothing; --name does.
  }
  return null
}

/** --force on a host that does not answer: the mesh forgets it, the host keeps what it has. */
async function forget(
  cli: Cli,
  session: Session,
  target: string,
  flags: LeaveFlags,
  line: ProgressLine,
  why: MeshError,
): Promise<void> {
  const part = hostPart(target).split('.')[0] ?? ''
  const name = flags.name ?? (isName(part) ? part : null)
  if (name === null) {
    throw new MeshError('MSH0101', `${target} does not answer, and its name in the mesh is not known`, {
      hint: 'add --name; meshctl status lists names',
    })
  }
  line.step('revoke')
  await (await session.signer()).revoke(name).catch((error: unknown) => {
    // Forgotten already: as wanted.
    if (!(error instanceof MeshError) || !['MSH0410', 'MSH0412'].includes(error.code)) throw error
  })
  line.step('deregister')
  await deregisterHost(session.registry, session.mesh, name)
  line.end('done', `${name} is out of the mesh; the host itself was not touched`)
  const paths = pathsUnder()
  cli.terminal.say(`${target} does not answer (${why.message}). What stays on it until it does:`)
  cli.terminal.say(
    `  units meshctl-*, ${paths.opt}, ${paths.etc}, ${paths.lib}, capture rules, resolver settings`,
  )
  cli.terminal.say(`  certificates that end by themselves; they are renewed no more`)
  cli.terminal.say(
    `  there: sudo sh ${paths.journal}/undo.sh all; or from here, when it is back: meshctl leave ${target}`,
  )
}
