// Hosts as control, the registry and they themselves tell of them, put together.
import type { HostRecord } from '../api/signer.ts'
import type { HostReport, Registry } from '../registry/registry.ts'
import { signOfLifeIds } from '../registry/registry.ts'
import { readReports } from './reports.ts'

export interface HostView {
  readonly host: string
  readonly address: string
  /** `gone`: its lease stands still; `unknown`: joined, not heard of yet; `revoked`: control signs nothing for it. */
  readonly health: 'healthy' | 'failing' | 'gone' | 'unknown' | 'revoked'
  readonly record: HostRecord | null
  readonly report: HostReport | null
  /** Age of the report, ms; null without one. */
  readonly reportAge: number | null
  readonly problems: readonly string[]
}

/** `records` null: control is away; then hosts are those of the registry. Sorted by name. */
export async function readHosts(
  registry: Registry,
  mesh: string,
  records: readonly HostRecord[] | null,
  now: number,
): Promise<HostView[]> {
  const reports = await readReports(registry, mesh)
  const nodes = (await registry.nodes()).value
  // A revoked host of which nothing else is left has left the mesh.
  const there = (host: string): boolean => nodes.some((node) => node.name === host)
  const joined = (records ?? []).filter(({ host, revoked }) => !revoked || there(host))
  const names = new Set([...joined.map(({ host }) => host), ...reports.map(({ host }) => host)])
  const views = [...names].toSorted().map(async (host) => {
    const record = records?.find((one) => one.host === host) ?? null
    const report = reports.find((one) => one.host === host) ?? null
    const node = nodes.find((one) => one.name === host) ?? null
    const checks = node === null ? [] : await registry.nodeChecks(host)
    const lease = checks.find(({ id, serviceId }) => serviceId === '' && signOfLifeIds.includes(id))
    const failing = checks.filter((check) => check.serviceId !== '' && check.status !== 'passing')
    const gone = lease?.status === 'critical'
    const problems = [
      ...(gone ? [lease.output === '' ? 'its lease stands still' : lease.output] : []),
      ...failing.map((check) => `${check.serviceId}: ${check.output === '' ? check.status : check.output}`),
      ...(report === null ? [] : reportProblems(report)),
    ]
    const at = report === null ? Number.NaN : Date.parse(report.at)
    return {
      host,
      address: report?.address ?? record?.address ?? node?.address ?? '',
      health: healthOf(record, gone, node !== null || report !== null, problems.length > 0),
      record,
      report,
      reportAge: Number.isNaN(at) ? null : now - at,
      problems: [...new Set(problems)],
    }
  })
  return await Promise.all(views)
}

function healthOf(
  record: HostRecord | null,
  gone: boolean,
  heard: boolean,
  bad: boolean,
): HostView['health'] {
  if (record?.revoked === true) return 'revoked'
  if (gone) return 'gone'
  if (!heard) return 'unknown'
  return bad ? 'failing' : 'healthy'
}

function reportProblems(report: HostReport): string[] {
  const found = [...report.problems]
  if (report.proxy !== 'ok') found.push(`proxy ${report.proxy}`)
  if (report.capture === 'drifted' || report.capture === 'failed') found.push(`capture ${report.capture}`)
  if (report.dns === 'failed') found.push('dns failed')
  return found
}
