// What protects a host while it is being changed: a lock against a second operator, and the dead-man timer that undoes
// everything when the operator's machine or the link dies. The timer is a unit on the host, so a reboot does not lose it.
import { systemClock, type Clock } from '../../clock.ts'
import { MeshError, reason } from '../../errors.ts'
import { quote, type Host } from '../../host/host.ts'
import { must } from '../../host/local.ts'
import { template } from '../../host/release.ts'
import { pathsUnder } from '../../paths.ts'

/** How long a host waits for a sign of the operator. */
export const patienceSeconds = 60
const touchEveryMs = 10_000
const undoTimeoutMs = 300_000

const { journal, systemd } = pathsUnder()
const lockFile = '/run/meshctl-join'

/** Uptime, not the clock: a join may well correct the clock. */
const until = `read -r now rest < /proc/uptime; until=$(( \${now%%.*} + ${patienceSeconds} ))`

export type UndoKind = 'all' | 'previous'

/** Takes the host for one operator; throws MSH0508 when another has it. The lock runs out by itself. */
export async function lock(host: Host, id: string): Promise<void> {
  const script =
    `exec 9> ${lockFile}.lock; flock -w 5 9 || exit 75; ${until}; ` +
    `if read -r other end < ${lockFile} 2>/dev/null && [ "$other" != ${id} ] && [ "$end" -gt "\${now%%.*}" ]; then exit 75; fi; ` +
    `echo "${id} $until" > ${lockFile}`
  const result = await host.run(script, { root: true, timeoutMs: 20_000 })
  if (result.status === 75) {
    throw new MeshError('MSH0508', `${host.label}: another join or leave is running`, {
      hint: 'try again in a minute',
    })
  }
  if (result.status !== 0)
    throw new MeshError('MSH0507', `${host.label}: could not lock: ${result.stderr.trim()}`)
}

export async function unlock(host: Host, id: string): Promise<void> {
  await host.run(
    `if grep -q '^${id} ' ${lockFile} 2>/dev/null; then rm -f ${lockFile} ${lockFile}.lock; fi`,
    { root: true },
  )
}

/** Puts undo.sh on the host and starts the timer that runs it when `touch` stays away. The journal is there. */
export async function arm(host: Host, folder: string, kind: UndoKind): Promise<void> {
  await host.put(`${journal}/undo.sh`, await template(folder, 'undo.sh'), { mode: 0o700 })
  await must(host, 'arm the dead-man timer', pend(kind))
  for (const name of ['meshctl-undo.service', 'meshctl-undo.timer']) {
    await host.put(`${systemd}/${name}`, await template(folder, name), { mode: 0o644 })
  }
  await must(
    host,
    'start the dead-man timer',
    'systemctl daemon-reload && systemctl enable --quiet --now meshctl-undo.timer && systemctl is-active --quiet meshctl-undo.timer',
    { timeoutMs: 60_000 },
  )
}

/** Tells the host that the operator is there; throws when it has given him up and undone everything. */
async function touch(host: Host, id: string, kind: UndoKind): Promise<void> {
  const result = await host.run(`[ -e ${journal}/pending ] || exit 70; ${pend(kind)}`, {
    root: true,
    timeoutMs: 20_000,
  })
  if (result.status === 70)
    throw new MeshError('MSH0506', `${host.label}: the dead-man timer has undone the join`)
  if (result.status !== 0) throw new MeshError('MSH0507', `${host.label}: ${result.stderr.trim()}`)
  await lock(host, id)
}

/** The point of no return: from here on the host keeps what it has. */
export async function disarm(host: Host): Promise<void> {
  await must(
    host,
    'stop the dead-man timer',
    `rm -f ${journal}/pending && systemctl disable --quiet --now meshctl-undo.timer; ` +
      `rm -f ${systemd}/meshctl-undo.timer ${systemd}/meshctl-undo.service ${systemd}/timers.target.wants/meshctl-undo.timer; ` +
      'systemctl daemon-reload',
    { timeoutMs: 60_000 },
  )
}

/** Runs undo.sh now; its complaints, none when all is undone. */
export async function undo(host: Host, kind: UndoKind): Promise<string[]> {
  const result = await host.run(`sh ${journal}/undo.sh ${kind}`, { root: true, timeoutMs: undoTimeoutMs })
  if (result.status === 0) return []
  const said = result.stderr.split('\n').filter((line) => line.startsWith('meshctl undo:'))
  return said.length > 0
    ? said
    : [`undo.sh ended with status ${result.status}: ${result.stderr.trim().slice(0, 300)}`]
}

/** Undoes even when this connection dies: the timer is told that the operator is gone, then undo.sh starts at once. */
export async function undoForSure(host: Host, folder: string, kind: UndoKind): Promise<string[]> {
  await arm(host, folder, kind)
  return await undo(host, kind)
}

/** Keeps lock and timer fresh while `work` runs; the signal tells it that the host has given up on us. */
export async function whileAlive<T>(
  host: Host,
  guard: { id: string; kind: UndoKind; clock?: Clock; signal?: AbortSignal | undefined },
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const clock = guard.clock ?? systemClock
  const lost = new AbortController()
  const signal = guard.signal === undefined ? lost.signal : AbortSignal.any([guard.signal, lost.signal])
  let touching: Promise<void> = Promise.resolve()
  let missed = 0
  const timer = clock.every(touchEveryMs, () => {
    touching = touching
      .then(async () => {
        await touch(host, guard.id, guard.kind)
        missed = 0
      })
      .catch((error: unknown) => {
        missed += 1
        const gone = error instanceof MeshError && (error.code === 'MSH0506' || error.code === 'MSH0501')
        if (gone || missed > 3) lost.abort(error instanceof Error ? error : new Error(reason(error)))
      })
  })
  try {
    return await work(signal)
  } finally {
    timer.cancel()
    await touching
  }
}

function pend(kind: UndoKind): string {
  return (
    `${until}; echo "$(cat /proc/sys/kernel/random/boot_id) $until ${kind}" > ${quote(`${journal}/pending.new`)} && ` +
    `mv -f ${journal}/pending.new ${journal}/pending`
  )
}
