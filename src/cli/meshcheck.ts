// `meshctl check`: every part of the mesh, seen from here.
import { existsSync } from 'node:fs'
import { systemClock } from '../clock.ts'
import { MeshError } from '../errors.ts'
import { checkObjects } from '../model/istio.ts'
import { ageText } from '../model/duration.ts'
import { serviceOf } from '../model/name.ts'
import { pathsUnder } from '../paths.ts'
import { version } from '../version.ts'
import { readRows } from './certificates.ts'
import type { Cli } from './cli.ts'
import type { CheckFlags } from './command/check.ts'
import { contextStore } from './context.ts'
import { Findings, printFindings } from './finding.ts'
import type { HostView } from './hostview.ts'
import { label, type ServiceView } from './meshview.ts'
import { idOf, printId, readShelf } from './objects.ts'
import { withSession, type Session } from './session.ts'
import { readStatus, type MeshStatus } from './statusview.ts'

/** A report in the future by more than this shows a clock that is ahead. */
const maxSkewMs = 5000
/** Agents report every minute or so; one that is this old shows an agent that hangs. */
const staleMs = 10 * 60_000

export async function checkMesh(cli: Cli, flags: CheckFlags): Promise<void> {
  const file = await contextStore(cli).read()
  if (file.current === null && cli.globals().context === undefined && existsSync(pathsUnder().hostConfig)) {
    // On a joined host there is no context: the host checks itself.
    return await (await import('./hostcheck.ts')).checkHost(cli, 'local', flags)
  }
  const findings = new Findings()
  await withSession(cli, async (session) => {
    const now = systemClock.now()
    const status = await readStatus(session, now)
    checkControl(session, status, findings)
    await checkCertificates(cli, now, findings)
    if (status.registry.ok) {
      for (const host of status.registry.value.hosts) checkOneHost(host, findings)
      checkServices(status.registry.value.services, findings)
      await checkConfig(cli, session, status.registry.value.services, findings)
    }
  })
  cli.exit(printFindings(cli.terminal, flags.output, findings.all))
}

function checkControl(session: Session, { control, registry }: MeshStatus, findings: Findings): void {
  const at = session.context.signers.join(', ')
  if (control.ok) {
    findings.ok('control', 'signer', `answers at ${at}`)
    const theirs = control.value.status.version
    if (theirs === version) findings.ok('control', 'version', theirs)
    else {
      findings.warn(
        'control',
        'version',
        `control is ${theirs}, this command ${version}`,
        'bring both to one version: meshctl init again on the control host, or ./install.sh here',
      )
    }
  } else
    findings.error(
      'control',
      'signer',
      control.error.message,
      control.error.hint ?? `meshctl explain ${control.error.code}`,
    )
  const { kind, url } = session.context.registry
  if (registry.ok) findings.ok('registry', kind, `answers at ${url}`)
  else
    findings.error(
      'registry',
      kind,
      registry.error.message,
      registry.error.hint ?? `meshctl explain ${registry.error.code}`,
    )
}

async function checkCertificates(cli: Cli, now: number, findings: Findings): Promise<void> {
  try {
    // Warnings of unreachable parts were findings already.
    const quiet = { ...cli, terminal: { ...cli.terminal, say: () => {} } }
    for (const row of await readRows(quiet, now)) {
      const subject = `${row.kind} ${row.name}`
      if (row.notAfter === null) continue
      const text =
        row.notAfter > now
          ? `${ageText(row.notAfter - now)} left`
          : `expired ${ageText(now - row.notAfter)} ago`
      if (row.state === 'ok') findings.ok('certificates', subject, text)
      else if (row.state === 'soon') findings.warn('certificates', subject, text, row.hint)
      else findings.error('certificates', subject, text, row.hint)
    }
  } catch (error) {
    if (!(error instanceof MeshError)) throw error
    findings.error('certificates', 'files', error.message, error.hint ?? `meshctl explain ${error.code}`)
  }
}

function checkOneHost(view: HostView, findings: Findings): void {
  const { host, report, reportAge } = view
  const look = `meshctl check host ${host}`
  if (view.health === 'revoked') {
    findings.warn('hosts', host, 'is revoked at control', `meshctl leave ${host}, or meshctl join ${host}`)
    return
  }
  if (view.health === 'gone') {
    findings.error(
      'hosts',
      host,
      view.problems[0] ?? 'its lease stands still',
      `is it up? ${look}; if it is gone for good: meshctl leave ${host} --force`,
    )
    return
  }
  if (report === null) {
    findings.warn('hosts', host, 'has not reported yet', look)
    return
  }
  const before = findings.all.length
  for (const problem of view.problems) findings.error('hosts', host, problem, look)
  if (reportAge !== null && reportAge < -maxSkewMs) {
    findings.error(
      'clocks',
      host,
      `is ${ageText(-reportAge)} ahead of this machine`,
      'set the clocks: timedatectl set-ntp true',
    )
  } else if (reportAge !== null && reportAge > staleMs) {
    findings.warn('hosts', host, `last reported ${ageText(reportAge)} ago`, `meshctl logs ${host} --agent`)
  }
  if (report.version !== version) {
    findings.warn(
      'hosts',
      host,
      `runs ${report.version}, this command is ${version}`,
      `meshctl join ${host} brings it up`,
    )
  }
  if (findings.all.length === before) findings.ok('hosts', host, 'is well')
}

function checkServices(services: readonly ServiceView[], findings: Findings): void {
  for (const view of services) {
    const passing = view.instances.filter((instance) => instance.passing).length
    const total = view.instances.length
    const look = `meshctl service get ${label(view)}`
    if (total === 0) findings.ok('services', label(view), 'has no instances; its address is kept')
    else if (passing === 0)
      findings.error('services', label(view), `none of ${total} instances is healthy`, look)
    else if (passing < total)
      findings.warn('services', label(view), `${passing} of ${total} instances are healthy`, look)
    else findings.ok('services', label(view), `${total} healthy`)
    const protocols = new Set(view.instances.map(({ servicePort, protocol }) => `${servicePort}/${protocol}`))
    const ports = new Set(view.instances.map(({ servicePort }) => servicePort))
    if (protocols.size > ports.size) {
      findings.warn(
        'services',
        label(view),
        `instances disagree on the protocol: ${[...protocols].join(', ')}`,
        'declare the same protocol= everywhere',
      )
    }
  }
}

/** The stored objects pass the checks, and what they point at is there. */
async function checkConfig(
  cli: Cli,
  session: Session,
  services: readonly ServiceView[],
  findings: Findings,
): Promise<void> {
  const { resources } = await readShelf(session.registry, session.mesh, cli.terminal)
  const before = findings.all.length
  for (const problem of checkObjects(resources, { known: [] }).problems) {
    const add = problem.level === 'error' ? findings.error.bind(findings) : findings.warn.bind(findings)
    add('objects', problem.path, problem.message, problem.hint ?? 'mend it and apply it again')
  }
  for (const resource of resources) {
    const hosts = resource.kind === 'VirtualService' ? resource.spec.hosts : [resource.spec.host]
    for (const host of hosts) {
      const named = serviceOf(host, resource.metadata.namespace)
      const view = services.find((one) => one.service === named?.service && one.namespace === named.namespace)
      const subject = printId(idOf(resource))
      if (view === undefined)
        findings.warn('objects', subject, `no service ${host} is registered`, 'meshctl service list')
      else if (resource.kind === 'DestinationRule') {
        for (const subset of resource.spec.subsets ?? []) {
          const wanted = Object.entries(subset.labels ?? {})
          const members = view.instances.filter(({ labels }) =>
            wanted.every(([key, value]) => labels[key] === value),
          )
          if (members.length === 0) {
            findings.warn(
              'objects',
              subject,
              `no instance is in the subset ${subset.name}`,
              `meshctl service get ${label(view)}`,
            )
          }
        }
      }
    }
  }
  if (findings.all.length === before && resources.length > 0)
    findings.ok('objects', `${resources.length} objects`, 'are valid')
}
