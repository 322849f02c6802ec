// Flags and facts of a host → the HostConfig that join writes there. Pure but for two questions to the host.
import { isIP } from 'node:net'
import { MeshError } from '../errors.ts'
import type { HostFacts } from '../host/facts.ts'
import { quote, type Host } from '../host/host.ts'
import type { CaptureConfig, HostConfig, RegistryConfig } from '../model/host.ts'
import { isName, serviceOf } from '../model/name.ts'
import type { ServiceDeclaration } from '../model/service.ts'
import { hostPart } from './remote.ts'

export interface JoinFlags {
  readonly name?: string
  readonly address?: string
  readonly capture: CaptureConfig['outbound']
  readonly inbound: boolean
  readonly excludePort?: number[]
  readonly excludeCidr?: string[]
  readonly dns: 'auto' | 'resolved' | 'resolv.conf' | 'off'
  readonly upstream?: string[]
  readonly consulAgent: string
  readonly workers?: number
  readonly accessLog: boolean
}

export interface PlanInput {
  readonly target: string
  readonly flags: JoinFlags
  readonly services: readonly ServiceDeclaration[]
  readonly mesh: string
  readonly trustDomain: string
  readonly signers: readonly string[]
  readonly registry: RegistryConfig
  readonly registryKind: 'embedded' | 'consul'
}

export async function planHost(input: PlanInput, facts: HostFacts, host: Host): Promise<HostConfig> {
  const { flags } = input
  return {
    schema: 1,
    mesh: input.mesh,
    trustDomain: input.trustDomain,
    host: nodeName(input.target, flags.name ?? joinedName(facts, input.mesh), facts),
    address: flags.address ?? (await ownAddress(input, facts, host)),
    registry: {
      ...input.registry,
      // The operator's token stays here: the embedded registry gives each host one of its own at enrolment.
      token: input.registryKind === 'embedded' ? null : input.registry.token,
      localAgent: localAgent(flags.consulAgent, input.registryKind, facts),
    },
    signers: input.signers,
    services: input.services,
    upstreams: flags.upstream ?? null,
    capture: {
      outbound: flags.capture,
      inbound: flags.inbound && flags.capture !== 'off',
      excludePorts: flags.excludePort ?? [],
      excludeCidrs: flags.excludeCidr ?? [],
    },
    dns: flags.dns === 'auto' ? (facts.resolver.kind === 'resolved' ? 'resolved' : 'resolv.conf') : flags.dns,
    workers: flags.workers ?? 0,
    accessLog: flags.accessLog,
  }
}

/** Checks that need no host: bad flags are told before any connection. */
export function checkJoinFlags(flags: JoinFlags, targets: readonly string[]): void {
  const bad: string[] = []
  if (targets.length > 1 && flags.name !== undefined) bad.push('--name is for one host at a time')
  if (targets.length > 1 && flags.address !== undefined) bad.push('--address is for one host at a time')
  if (flags.name !== undefined && !isName(flags.name)) bad.push(`--name "${flags.name}" must be a DNS label`)
  if (flags.address !== undefined && isIP(flags.address) === 0)
    bad.push(`--address "${flags.address}" is no IP address`)
  for (const cidr of flags.excludeCidr ?? []) {
    if (!isCidr(cidr)) bad.push(`--exclude-cidr "${cidr}" is no network; write 10.0.0.0/8`)
  }
  for (const upstream of flags.upstream ?? []) {
    if (serviceOf(upstream) === null)
      bad.push(`--upstream "${upstream}" must be service or service.namespace`)
  }
  if (!['auto', 'off'].includes(flags.consulAgent) && !URL.canParse(flags.consulAgent)) {
    bad.push(`--consul-agent "${flags.consulAgent}" must be auto, off or a URL`)
  }
  const twice = targets.filter((target, at) => targets.indexOf(target) < at)
  for (const target of new Set(twice)) bad.push(`${target} is named twice`)
  if (bad.length === 1) throw new MeshError('MSH0101', bad[0] ?? '')
  if (bad.length > 1) throw new MeshError('MSH0101', `${bad.length} flags are wrong`, { details: bad })
}

/** Throws MSH0101 where a PROXY header would be left to the application: nobody of ours would see the connection. */
export function checkAccepting(
  flags: Pick<JoinFlags, 'inbound' | 'capture'>,
  services: readonly ServiceDeclaration[],
): void {
  if (flags.inbound && flags.capture !== 'off') return
  const one = services.find(({ proxyProtocol }) => proxyProtocol === 'accept' || proxyProtocol === 'both')
  if (one === undefined) return
  const flag = flags.inbound ? '--capture off' : '--no-inbound'
  throw new MeshError(
    'MSH0101',
    `${one.name}: proxy-protocol=${one.proxyProtocol} means nothing with ${flag}`,
    {
      hint: 'connections from outside the mesh would reach the application directly',
    },
  )
}

function isCidr(text: string): boolean {
  const [address = '', bits, more] = text.split('/')
  const family = isIP(address)
  // IPv4 inside IPv6 never travels: the kernel's rules know it as IPv4.
  if (family === 0 || more !== undefined || /^::ffff:/i.test(address)) return false
  return bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= (family === 4 ? 32 : 128))
}

/** A host that is joined keeps its name, however it is reached. */
function joinedName(facts: HostFacts, mesh: string): string | undefined {
  const { installed } = facts
  return installed !== null && installed.mesh === mesh && installed.host !== '' ? installed.host : undefined
}

/** The name given; else the target's first label; for an address the host's own name. */
export function nodeName(target: string, given: string | undefined, facts: HostFacts): string {
  if (given !== undefined) return given
  const part = hostPart(target)
  const source = target === 'local' || isIP(part) > 0 ? facts.hostname : part
  const name = (source.split('.')[0] ?? '').toLowerCase()
  if (isName(name) && name !== 'localhost') return name
  throw new MeshError('MSH0101', `${target}: "${source}" cannot be the name of the host in the mesh`, {
    hint: 'add --name',
  })
}

/** Where other hosts reach it: the address it was named by, else the one it uses towards control. */
async function ownAddress(input: PlanInput, facts: HostFacts, host: Host): Promise<string> {
  const usable = facts.addresses.filter((address) => !isLocal(address))
  const part = hostPart(input.target)
  if (usable.includes(part)) return part
  for (const signer of input.signers) {
    const control = new URL(signer).hostname.replace(/^\[|\]$/g, '')
    if (usable.includes(control)) return control
    // Resolved on the host: names may mean something else there.
    const asked = await host.run(
      `a=$(getent ahosts ${quote(control)} | head -n1 | cut -d' ' -f1); ip -o route get "$a"`,
    )
    const source = / src (\S+)/.exec(asked.stdout)?.[1]
    if (source !== undefined && usable.includes(source)) return source
  }
  const first = usable.find((address) => isIP(address) === 4) ?? usable[0]
  if (first === undefined) {
    throw new MeshError('MSH0101', `${input.target}: no address by which others reach it was found`, {
      hint: 'add --address',
    })
  }
  return first
}

function isLocal(address: string): boolean {
  return /^127\.|^169\.254\.|^::1$|^fe80:/i.test(address)
}

function localAgent(flag: string, kind: PlanInput['registryKind'], facts: HostFacts): string | null {
  if (flag === 'off') return null
  if (flag !== 'auto') return flag
  // With the embedded registry an agent there belongs to another cluster.
  return kind === 'consul' && facts.consulAgent ? 'http://127.0.0.1:8500' : null
}
