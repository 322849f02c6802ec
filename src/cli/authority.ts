// What `meshctl init` makes or takes up again: the root, the issuing CA of control, the operator's certificate; and what
// is on the control host already.
import type { KeyObject } from 'node:crypto'
import { operatorSpiffe, type ControlConfig } from '../api/signer.ts'
import { systemClock } from '../clock.ts'
import { MeshError } from '../errors.ts'
import type { Host } from '../host/host.ts'
import { isRecord } from '../model/problem.ts'
import { pathsUnder } from '../paths.ts'
import { isWithinDates, matchesKey, readCertificate, readCertificates } from '../pki/cert.ts'
import { makeIssuing, makeLeaf, makeRoot, operatorSeconds, type Issuer } from '../pki/issue.ts'
import { encryptedKeyPem, keyPem, makeKey, publicOf, readKey } from '../pki/key.ts'
import { readRoots, verifyIssuer } from '../pki/trust.ts'
import type { Cli } from './cli.ts'
import type { InitFlags } from './command/init.ts'
import { meshFiles, type ContextStore } from './context.ts'
import type { Terminal } from './terminal.ts'
import { knownPassphrase, newPassphrase, type InitPlan } from './wizard.ts'

const folder = pathsUnder().control

/** What is on the control host already. */
export interface Present {
  readonly config: ControlConfig
  readonly roots: string
  readonly issuing: string
  readonly issuingKey: string
}

export interface Root {
  readonly pem: string
  /** Opens the key, and asks for its passphrase where it has one: only when something must be signed. */
  readonly open: (terminal: Terminal) => Promise<Issuer>
}

/** The root of an earlier run, or a new one; for a new one the passphrase is asked for before anything is sent anywhere. */
export async function ensureRoot(
  cli: Cli,
  store: ContextStore,
  plan: InitPlan,
  flags: InitFlags,
): Promise<Root> {
  const { mesh } = plan
  const roots = await store.tryFile(mesh, meshFiles.roots)
  const stored = await store.tryFile(mesh, meshFiles.rootKey)
  if (roots !== null && stored !== null) {
    return {
      pem: roots,
      open: async (terminal) => {
        const key = await openRootKey(
          terminal,
          flags,
          `${store.meshFolder(mesh)}/${meshFiles.rootKey}`,
          stored,
        )
        const certificate = readRoots(roots).find((root) => matchesKey(root, key))
        if (certificate !== undefined) return { certificate, key }
        throw new MeshError(
          'MSH0104',
          `${store.meshFolder(mesh)}: ${meshFiles.rootKey} belongs to none of ${meshFiles.roots}`,
        )
      },
    }
  }
  const passphrase = await newPassphrase(cli.terminal, flags)
  const key = makeKey()
  const pem = makeRoot({ key, trustDomain: plan.trustDomain, now: systemClock.now() })
  await store.writeFile(mesh, meshFiles.draft, `${JSON.stringify(plan, null, 2)}\n`, 0o600)
  // The key first: a root without its key would be worth nothing.
  await store.writeFile(
    mesh,
    meshFiles.rootKey,
    passphrase === null ? keyPem(key) : await encryptedKeyPem(key, passphrase),
    0o600,
  )
  await store.writeFile(mesh, meshFiles.roots, pem, 0o644)
  return { pem, open: () => Promise.resolve({ certificate: readCertificate(pem), key }) }
}

async function openRootKey(
  terminal: Terminal,
  flags: InitFlags,
  path: string,
  stored: string,
): Promise<KeyObject> {
  if (!stored.includes('ENCRYPTED')) return readKey(stored)
  const passphrase = await knownPassphrase(terminal, flags)
  try {
    return readKey(stored, passphrase)
  } catch (error) {
    throw new MeshError('MSH0416', `wrong passphrase for the root key ${path}`, {
      hint: 'run the same command again; without the passphrase the key is lost, and the mesh needs a new root',
      cause: error,
    })
  }
}

/** The issuing CA that control has, while half of its life is left; else a new one below the root. */
export async function issueBelow(
  plan: InitPlan,
  present: Present | null,
  root: () => Promise<Issuer>,
): Promise<Issuer> {
  const now = systemClock.now()
  if (present !== null && present.issuing !== '' && present.issuingKey !== '') {
    const certificate = readCertificate(present.issuing)
    const key = readKey(present.issuingKey)
    const half = certificate.notBefore + (certificate.notAfter - certificate.notBefore) / 2
    if (matchesKey(certificate, key) && now < half && isTrusted(present, now)) return { certificate, key }
  }
  const key = makeKey()
  const pem = makeIssuing({
    root: await root(),
    publicKey: publicOf(key),
    trustDomain: plan.trustDomain,
    now,
  })
  return { certificate: readCertificate(pem), key }
}

function isTrusted(present: Present, now: number): boolean {
  try {
    verifyIssuer(readCertificate(present.issuing), readRoots(present.roots), { now })
    return true
  } catch (error) {
    if (error instanceof MeshError) return false
    throw error
  }
}

/** A key and certificate for this operator, unless good ones are there. */
export async function ensureOperator(store: ContextStore, plan: InitPlan, issuer: Issuer): Promise<void> {
  const now = systemClock.now()
  const old = await store.tryFile(plan.mesh, meshFiles.operatorChain)
  const oldKey = await store.tryFile(plan.mesh, meshFiles.operatorKey)
  if (old !== null && oldKey !== null) {
    const [leaf, parent] = readCertificates(old)
    const mine = leaf !== undefined && matchesKey(leaf, readKey(oldKey)) && isWithinDates(leaf, now)
    if (mine && parent?.fingerprint === issuer.certificate.fingerprint) return
  }
  const key = makeKey()
  const spiffe = operatorSpiffe(plan.trustDomain, plan.operator)
  const leaf = makeLeaf({ issuer, publicKey: publicOf(key), spiffe, now, lifeSeconds: operatorSeconds })
  await store.writeFile(plan.mesh, meshFiles.operatorKey, keyPem(key), 0o600)
  await store.writeFile(
    plan.mesh,
    meshFiles.operatorChain,
    `${leaf.trimEnd()}\n${issuer.certificate.pem}`,
    0o644,
  )
}

export async function readPresent(host: Host): Promise<Present | null> {
  const read = async (name: string): Promise<string | null> =>
    (await host.get(`${folder}/${name}`, { root: true }))?.toString('utf8') ?? null
  const config = await read('control.json')
  if (config === null) return null
  let parsed: unknown
  try {
    parsed = JSON.parse(config)
  } catch (error) {
    throw new MeshError('MSH0107', `${host.label}: ${folder}/control.json is there and is not valid JSON`, {
      cause: error,
    })
  }
  if (!isRecord(parsed) || typeof parsed['mesh'] !== 'string') {
    throw new MeshError('MSH0107', `${host.label}: ${folder}/control.json is there and is none of ours`)
  }
  return {
    config: parsed as unknown as ControlConfig,
    roots: (await read('ca/roots.pem')) ?? '',
    issuing: (await read('ca/issuing.pem')) ?? '',
    issuingKey: (await read('ca/issuing.key')) ?? '',
  }
}

/** Never over another mesh: not by name, not by root. */
export function refuseForeign(plan: InitPlan, present: Present | null, roots: string): void {
  if (present === null) return
  const { mesh, trustDomain } = present.config
  const hint = `use another control host; or there: systemctl disable --now meshctl-control, and move ${folder} away`
  if (mesh !== plan.mesh || trustDomain !== plan.trustDomain) {
    throw new MeshError('MSH0107', `the control host serves the mesh ${mesh} (${trustDomain})`, { hint })
  }
  const ours = readRoots(roots).map(({ fingerprint }) => fingerprint)
  const theirs = present.roots === '' ? [] : readRoots(present.roots).map(({ fingerprint }) => fingerprint)
  if (theirs.length > 0 && !theirs.some((fingerprint) => ours.includes(fingerprint))) {
    throw new MeshError(
      'MSH0107',
      `the control host serves another mesh of the name ${mesh}: its root is not ours`,
      { hint },
    )
  }
}
