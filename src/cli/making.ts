// The work behind `meshctl init`. Its steps leave files that the next run takes up: draft → root → control → operator's
// certificate → control answers → context. The context comes last: while it is not there, init is not done.
import { readFile } from 'node:fs/promises'
import { isIP } from 'node:net'
import { randomBytes } from 'node:crypto'
import { connectSigner } from '../api/client.ts'
import { controlSpiffe, type ControlConfig } from '../api/signer.ts'
import { systemClock } from '../clock.ts'
import { MeshError } from '../errors.ts'
import { formatDuration } from '../model/duration.ts'
import { isRecord } from '../model/problem.ts'
import { ports } from '../paths.ts'
import { readCertificates } from '../pki/cert.ts'
import { leafSeconds } from '../pki/issue.ts'
import { keyPem } from '../pki/key.ts'
import { connectRegistry } from '../registry/client.ts'
import { confirm } from './ask.ts'
import {
  ensureOperator,
  ensureRoot,
  issueBelow,
  readPresent,
  refuseForeign,
  type Present,
} from './authority.ts'
import type { Cli } from './cli.ts'
import type { InitFlags } from './command/init.ts'
import { contextStore, meshFiles, type ContextStore, type MeshContext } from './context.ts'
import { installControl } from './join/control.ts'
import { printData } from './output.ts'
import { Progress, type ProgressLine } from './progress.ts'
import { openRemote, readSshLogin } from './remote.ts'
import { mustResolve, planMesh, readLife, type InitPlan } from './wizard.ts'

export async function makeMesh(cli: Cli, named: string | undefined, flags: InitFlags): Promise<void> {
  const { terminal } = cli
  const store = contextStore(cli)
  const plan = await resume(store, named ?? flags.mesh, flags, () => planMesh(terminal, named, flags))
  await refuseOthers(store, plan)
  await mustResolve(plan.controlAddress)
  const consul = await readConsulFiles(flags)
  if (flags.dryRun) {
    printData(terminal, 'yaml', 'InitPlan', {
      ...plan,
      ports: [ports.signer, ...(plan.registry === 'embedded' ? [ports.registry] : [])],
    })
    terminal.say('nothing was done (dry run)')
    return
  }
  say(cli, plan, (await store.tryFile(plan.mesh, meshFiles.roots)) === null)
  if (!(await confirm(terminal, flags.yes, 'make this mesh?')))
    throw new MeshError('MSH0102', 'aborted, no changes made')
  const ssh = await readSshLogin(terminal, flags)
  const root = await ensureRoot(cli, store, plan, flags)

  const progress = new Progress(terminal)
  const line = progress.line(plan.control === 'local' ? 'control' : plan.control)
  try {
    await cli.guarded(async (signal) => {
      line.step('connect')
      const { host } = await openRemote(plan.control, flags, ssh, progress.terminal)
      try {
        const present = await readPresent(host)
        refuseForeign(plan, present, root.pem)
        const issuer = await issueBelow(plan, present, () => root.open(progress.terminal))
        const config = controlConfig(plan, present, consul)
        signal.throwIfAborted()
        const result = await installControl(
          host,
          {
            config,
            roots: root.pem,
            issuing: issuer.certificate.pem,
            issuingKey: keyPem(issuer.key),
            replace: present !== null,
            timeoutSeconds: flags.timeout,
          },
          (phase, state, detail) => {
            if (state === 'start' && phase !== 'connect') line.step(phase, detail)
            else if (state === 'progress') line.detail(detail)
            else if (state === 'undo') line.undoing(detail)
          },
        )
        for (const { level, subject, message, hint } of result.findings) {
          if (level === 'warn')
            progress.terminal.say(`${subject}: ${message}${hint === '' ? '' : ` (${hint})`}`)
        }
        await ensureOperator(store, plan, issuer)
        await finish(store, plan, config, flags, line, signal)
      } finally {
        host.close()
      }
    })
    line.end('done', `mesh ${plan.mesh} is ready`)
  } catch (error) {
    line.end('failed', 'run the same command again: it continues')
    throw error
  } finally {
    progress.close()
  }
  terminal.say(
    `context ${plan.mesh} is current; the root key lies in ${store.meshFolder(plan.mesh)}/${meshFiles.rootKey}: keep a copy elsewhere`,
  )
  terminal.say('next: meshctl join [user@]host --service web,port=8080')
}

/**
 * The plan of an interrupted run, or of a mesh that is there (then init brings control up to date); else a new one. Flags
 * that say where control is always make a new plan, which must then agree with what is there.
 */
async function resume(
  store: ContextStore,
  mesh: string | undefined,
  flags: InitFlags,
  ask: () => Promise<InitPlan>,
): Promise<InitPlan> {
  const decided = [
    flags.control,
    flags.controlAddress,
    flags.consul,
    flags.registry,
    flags.trustDomain,
    flags.name,
  ]
  if (mesh === undefined || decided.some((flag) => flag !== undefined)) return await ask()
  const leafSeconds = flags.leafLifetime === undefined ? null : readLife(flags.leafLifetime)
  const text = await store.tryFile(mesh, meshFiles.draft)
  const draft: unknown = text === null ? null : JSON.parse(text)
  if (isRecord(draft) && draft['schema'] === 1) {
    const plan = draft as unknown as InitPlan
    return { ...plan, leafSeconds: leafSeconds ?? plan.leafSeconds }
  }
  const { contexts } = await store.read()
  const context = Object.hasOwn(contexts, mesh) ? contexts[mesh] : undefined
  return context === undefined ? await ask() : { ...planOf(context), leafSeconds }
}

function planOf(context: MeshContext): InitPlan {
  const { control, registry } = context
  const user = control.kind === 'ssh' && control.user !== null ? `${control.user}@` : ''
  const port = control.kind === 'ssh' && control.port !== 22 ? `:${control.port}` : ''
  return {
    schema: 1,
    mesh: context.mesh,
    trustDomain: context.trustDomain,
    operator: context.operator,
    control: control.kind === 'local' ? 'local' : `${user}${control.host}${port}`,
    controlAddress: new URL(context.signers[0] ?? '').hostname.replace(/^\[|\]$/g, ''),
    registry: registry.kind,
    consulUrl: registry.kind === 'consul' ? registry.url : null,
    leafSeconds: null,
  }
}

/** Another mesh under this name on this machine. */
async function refuseOthers(store: ContextStore, plan: InitPlan): Promise<void> {
  const { contexts } = await store.read()
  const old = Object.hasOwn(contexts, plan.mesh) ? contexts[plan.mesh] : undefined
  if (old === undefined) return
  const url = `https://${bracketed(plan.controlAddress)}:${ports.signer}`
  if (old.trustDomain === plan.trustDomain && old.signers.includes(url)) return
  throw new MeshError(
    'MSH0107',
    `this machine knows another mesh "${plan.mesh}", at ${old.signers.join(', ')}`,
    {
      hint: `choose another name, or: meshctl context remove ${plan.mesh}, and move ${store.meshFolder(plan.mesh)} away`,
    },
  )
}

/** `first`: there is nothing of this mesh yet, so what nobody said is the default; later it is what control has. */
function say(cli: Cli, plan: InitPlan, first: boolean): void {
  const { terminal } = cli
  const seconds = plan.leafSeconds ?? (first ? leafSeconds : null)
  const life = seconds === null ? '' : `; certificates of hosts live ${formatDuration(seconds * 1000)}`
  terminal.say(`mesh       ${plan.mesh} (trust domain ${plan.trustDomain})`)
  terminal.say(
    `control    on ${plan.control === 'local' ? 'this machine' : plan.control}, reached at ${plan.controlAddress}:${ports.signer}`,
  )
  terminal.say(
    `registry   ${plan.registry === 'embedded' ? `embedded, port ${ports.registry}` : `Consul at ${plan.consulUrl ?? ''}`}`,
  )
  terminal.say(`operator   ${plan.operator}${life}`)
}

interface ConsulFiles {
  readonly token: string | null
  readonly ca: string | null
}

async function readConsulFiles(flags: InitFlags): Promise<ConsulFiles> {
  const read = async (flag: string, path: string | undefined): Promise<string | null> => {
    if (path === undefined) return null
    return await readFile(path, 'utf8').catch((error: unknown) => {
      throw new MeshError('MSH0101', `${flag} ${path} cannot be read`, { cause: error })
    })
  }
  const ca = await read('--consul-ca', flags.consulCa)
  if (ca !== null) readCertificates(ca)
  return { token: (await read('--consul-token-file', flags.consulTokenFile))?.trim() ?? null, ca }
}

function controlConfig(plan: InitPlan, present: Present | null, consul: ConsulFiles): ControlConfig {
  const old = present?.config.embedded ?? null
  return {
    schema: 1,
    mesh: plan.mesh,
    trustDomain: plan.trustDomain,
    names: [plan.controlAddress],
    // `::` takes IPv4 too, but fails where IPv6 is switched off.
    listen: isIP(plan.controlAddress) === 6 ? '::' : '0.0.0.0',
    signerPort: ports.signer,
    // The operators' token stays: contexts elsewhere hold it.
    embedded:
      plan.registry === 'embedded'
        ? { port: ports.registry, token: old?.token ?? randomBytes(32).toString('base64url') }
        : null,
    consul:
      plan.consulUrl === null
        ? null
        : {
            url: plan.consulUrl,
            token: consul.token ?? present?.config.consul?.token ?? null,
            ca: consul.ca ?? present?.config.consul?.ca ?? null,
          },
    leafSeconds: plan.leafSeconds ?? present?.config.leafSeconds ?? leafSeconds,
  }
}

/** Waits until control and registry answer as they will answer every later command; then writes the context. */
async function finish(
  store: ContextStore,
  plan: InitPlan,
  config: ControlConfig,
  flags: InitFlags,
  line: ProgressLine,
  signal: AbortSignal,
): Promise<void> {
  const { mesh, trustDomain } = plan
  const place = bracketed(plan.controlAddress)
  const consulCa = config.consul?.ca ?? null
  if (consulCa !== null) await store.writeFile(mesh, meshFiles.registryCa, consulCa, 0o644)
  const registry: MeshContext['registry'] =
    config.embedded === null
      ? {
          kind: 'consul',
          url: plan.consulUrl ?? '',
          token: config.consul?.token ?? null,
          ca: consulCa === null ? 'system' : 'file',
          spiffe: null,
        }
      : {
          kind: 'embedded',
          url: `https://${place}:${config.embedded.port}`,
          token: config.embedded.token,
          ca: 'roots',
          spiffe: controlSpiffe(trustDomain),
        }
  const context: MeshContext = {
    mesh,
    trustDomain,
    operator: plan.operator,
    signers: [`https://${place}:${config.signerPort}`],
    registry,
    control: controlPlace(plan, flags),
    createdAt: new Date(systemClock.now()).toISOString(),
  }
  line.step('answer', context.signers[0])
  await waitFor(store, context, flags.timeout * 1000, signal)
  await store.write(mesh, context)
  await store.removeFile(mesh, meshFiles.draft)
}

async function waitFor(
  store: ContextStore,
  context: MeshContext,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<void> {
  const { mesh } = context
  const signer = connectSigner({
    urls: context.signers,
    roots: await store.readFile(mesh, meshFiles.roots),
    trustDomain: context.trustDomain,
    cert: await store.readFile(mesh, meshFiles.operatorChain),
    key: await store.readFile(mesh, meshFiles.operatorKey),
  })
  const registry = connectRegistry(await store.registryConfig(mesh, context))
  const until = systemClock.monotonic() + timeoutMs
  try {
    for (;;) {
      signal.throwIfAborted()
      try {
        await signer.status()
        await registry.leader()
        return
      } catch (error) {
        const again = error instanceof MeshError && ['MSH0401', 'MSH0301'].includes(error.code)
        if (!again || systemClock.monotonic() > until) throw error
      }
      await new Promise<void>((resolve) => systemClock.after(300, resolve))
    }
  } finally {
    registry.close()
  }
}

function controlPlace(plan: InitPlan, flags: InitFlags): MeshContext['control'] {
  if (plan.control === 'local') return { kind: 'local' }
  const at = plan.control.lastIndexOf('@')
  return {
    kind: 'ssh',
    user: at < 0 ? (flags.user ?? null) : plan.control.slice(0, at),
    host: plan.control.slice(at + 1),
    port: flags.port ?? 22,
    identity: flags.identity?.[0] ?? null,
    jump: flags.jump ?? null,
  }
}

function bracketed(address: string): string {
  return address.includes(':') ? `[${address}]` : address
}
