// `meshctl check host`: one machine, over SSH or this one. Before a join it says whether the host can join; after it,
// whether what join installed works.
import { systemClock } from '../clock.ts'
import { gatherFacts, type HostFacts } from '../host/facts.ts'
import { quote, type Host } from '../host/host.ts'
import { preflight } from '../host/preflight.ts'
import type { HostConfig } from '../model/host.ts'
import { listens } from '../model/service.ts'
import { pathsUnder, ports, units } from '../paths.ts'
import { version } from '../version.ts'
import type { Cli } from './cli.ts'
import type { CheckFlags } from './command/check.ts'
import { Findings, printFindings } from './finding.ts'
import { contextStore } from './context.ts'
import { readConfig } from './join/install.ts'
import { openRemote, readSshLogin } from './remote.ts'
import { checkReport, checkStanding } from './standing.ts'

const paths = pathsUnder()

export async function checkHost(cli: Cli, target: string, flags: CheckFlags): Promise<void> {
  const options = await readSshLogin(cli.terminal, flags)
  const { host } = await openRemote(target, flags, options, cli.terminal)
  try {
    const facts = await gatherFacts(host, systemClock)
    const findings = new Findings()
    if (facts.installed === null) checkFitness(facts, findings)
    else {
      await checkStanding(contextStore(cli), facts.installed, findings, (text) => cli.terminal.say(text))
      await checkJoined(host, facts, findings)
    }
    cli.exit(printFindings(cli.terminal, flags.output, findings.all))
  } finally {
    host.close()
  }
}

function checkFitness(facts: HostFacts, findings: Findings): void {
  const dns = facts.resolver.kind === 'resolved' ? 'resolved' : 'resolv.conf'
  const wanted = { servicePorts: [], dns, capture: true, users: [], units: [], mesh: '', host: '' } as const
  for (const { level, subject, message, hint } of preflight(facts, wanted)) {
    findings.all.push({ group: 'fit to join', level, subject, message, hint })
  }
}

async function checkJoined(host: Host, facts: HostFacts, findings: Findings): Promise<void> {
  const { installed } = facts
  findings.ok('join', 'mesh', installed === null ? '' : `${installed.mesh} as ${installed.host}`)
  const config = await readConfig(host)
  await checkUnits(host, config, findings)
  await checkReport(host, findings, await checkVerify(host, findings))
  await checkProxy(host, findings)
  await checkNames(host, config, findings)
  checkClock(facts, findings)
  await checkRelease(host, findings)
}

async function checkUnits(host: Host, config: HostConfig | null, findings: Findings): Promise<void> {
  const isAsked = config !== null && config.dns !== 'off'
  const names = [units.agent, ...(isAsked ? [units.agentSocket] : []), units.proxy, units.proxySocket]
  const { stdout } = await host.run(`systemctl is-active ${names.join(' ')}`)
  const states = stdout.trim().split('\n')
  for (const [index, name] of names.entries()) {
    const state = states[index] ?? 'unknown'
    if (state === 'active') findings.ok('units', name, 'is active')
    else
      findings.error(
        'units',
        name,
        `is ${state}`,
        name === units.agentSocket
          ? `systemctl stop ${name} ${units.agent} && systemctl start ${name} ${units.agent}`
          : `systemctl restart ${name}; journalctl -u ${name} says why`,
      )
  }
}

/** The agent's own look at keys, certificates on the wire, capture rules and the proxy. Gives what it found. */
async function checkVerify(host: Host, findings: Findings): Promise<string[]> {
  const result = await host.run(`${paths.command} agent verify`, { root: true, timeoutMs: 30_000 })
  if (result.status === 0) {
    findings.ok('agent', 'verify', 'certificates, capture rules and proxy are as they should be')
    return []
  }
  const said = `${result.stdout}\n${result.stderr}`
    .trim()
    .split('\n')
    .filter((line) => line !== '')
  for (const line of said.length === 0 ? [`ended with ${result.status}`] : said.slice(0, 10)) {
    findings.error(
      'agent',
      'verify',
      line,
      'systemctl restart meshctl-agent; meshctl logs HOST --agent says more',
    )
  }
  return said
}

async function checkProxy(host: Host, findings: Findings): Promise<void> {
  // Bash's own TCP: curl need not be there.
  const { status } = await host.run(`timeout 3 bash -c 'exec 3<>/dev/tcp/127.0.0.1/${ports.health}'`)
  if (status === 0) findings.ok('proxy', 'health', `listens on port ${ports.health}`)
  else
    findings.error(
      'proxy',
      'health',
      `port ${ports.health} does not answer`,
      'systemctl restart meshctl-proxy',
    )
}

/** A name of the mesh resolves to a virtual address, and one outside still resolves as before. */
async function checkNames(host: Host, config: HostConfig | null, findings: Findings): Promise<void> {
  if (config === null) {
    findings.error('dns', 'host.json', 'cannot be read', 'meshctl join the host again')
    return
  }
  if (config.dns === 'off') {
    findings.ok('dns', 'names', 'are switched off for this host')
    return
  }
  // Those that only call have no name to look up.
  const own = config.services.find(listens)
  if (own === undefined) return
  const name = `${own.name}.${own.namespace}.mesh`
  const { stdout } = await host.run(`timeout 5 getent ahostsv4 ${quote(name)}`)
  const address = stdout.split(/\s/)[0] ?? ''
  if (address.startsWith('240.240.')) findings.ok('dns', name, `is ${address}`)
  else {
    const got = address === '' ? 'does not resolve' : `resolves to ${address}`
    findings.error('dns', name, got, 'meshctl logs HOST --agent; compare /etc/resolv.conf')
  }
}

function checkClock(facts: HostFacts, findings: Findings): void {
  const skew = Math.abs(facts.clockSkewMs)
  if (skew < 5000) findings.ok('clock', 'skew', `${Math.round(facts.clockSkewMs)} ms`)
  else
    findings.error(
      'clock',
      'skew',
      `${Math.round(facts.clockSkewMs / 1000)} s apart from this machine`,
      'timedatectl set-ntp true',
    )
}

async function checkRelease(host: Host, findings: Findings): Promise<void> {
  const { stdout } = await host.run(`${paths.command} --version`)
  const theirs = stdout.trim()
  if (theirs === version) findings.ok('release', 'version', theirs)
  else
    findings.warn(
      'release',
      'version',
      `${theirs === '' ? 'unknown' : theirs}, this command is ${version}`,
      'meshctl join the host again',
    )
}
