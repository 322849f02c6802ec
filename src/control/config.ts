// The folder of control, read and checked before anything starts: control.json (ControlConfig) and the CA beside it.
// All problems are reported at once.
import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { ControlConfig } from '../api/signer.ts'
import { MeshError, reason } from '../errors.ts'
import { isWithinDates, matchesKey, readCertificate } from '../pki/cert.ts'
import type { Certificate } from '../pki/cert.ts'
import type { Issuer } from '../pki/issue.ts'
import { readKey } from '../pki/key.ts'
import { isDottedName } from '../pki/spiffe.ts'
import { readRoots, verifyIssuer } from '../pki/trust.ts'

/** Everything that control needs from its folder. */
export interface ControlSetup {
  readonly dir: string
  readonly config: ControlConfig
  readonly issuer: Issuer
  /** PEM bundle and the same, read. */
  readonly roots: string
  readonly rootCertificates: readonly Certificate[]
}

const knownKeys = [
  'schema',
  'mesh',
  'trustDomain',
  'names',
  'listen',
  'signerPort',
  'embedded',
  'consul',
  'leafSeconds',
] as const

/** Shorter lives would end before renewal has had its tries; longer ones than 30 days defeat their purpose. */
const leafBounds = { least: 10, most: 30 * 86_400 }

/** Throws MSH0415 with one line per problem. */
export function readSetup(dir: string, now: number): ControlSetup {
  const problems: string[] = []
  const attempt = <T>(what: string, run: () => T): T | null => {
    try {
      return run()
    } catch (error) {
      problems.push(`${what}: ${reason(error)}`)
      return null
    }
  }
  const config = attempt('control.json', () =>
    parseConfig(readFileSync(join(dir, 'control.json'), 'utf8'), problems),
  )
  const roots = attempt('ca/roots.pem', () => readFileSync(join(dir, 'ca/roots.pem'), 'utf8'))
  const rootCertificates = roots === null ? null : attempt('ca/roots.pem', () => readRoots(roots))
  const certificate = attempt('ca/issuing.pem', () =>
    readCertificate(readFileSync(join(dir, 'ca/issuing.pem'), 'utf8')),
  )
  const key = attempt('ca/issuing.key', () => {
    const path = join(dir, 'ca/issuing.key')
    if ((statSync(path).mode & 0o077) !== 0) throw new Error('others may read it; set its mode to 0600')
    return readKey(readFileSync(path, 'utf8'))
  })
  if (certificate !== null) {
    if (key !== null && !matchesKey(certificate, key))
      problems.push('ca/issuing.key: it is not the key of ca/issuing.pem')
    if (!isWithinDates(certificate, now)) {
      problems.push(
        `ca/issuing.pem: not valid now, it ends at ${new Date(certificate.notAfter).toISOString()}`,
      )
    }
    if (rootCertificates !== null) {
      attempt('ca/issuing.pem', () => verifyIssuer(certificate, rootCertificates, { now }))
    }
    if (config !== null && certificate.permitted?.includes(config.trustDomain) === false) {
      problems.push(`ca/issuing.pem: it may not sign for the trust domain ${config.trustDomain}`)
    }
  }
  if (problems.length > 0 || !config || roots === null || !rootCertificates || !certificate || !key) {
    throw new MeshError('MSH0415', `control cannot start from ${dir}: ${problems[0] ?? 'unknown'}`, {
      details: problems,
      hint: '`meshctl init` writes this folder',
    })
  }
  return { dir, config, issuer: { certificate, key }, roots, rootCertificates }
}

type Json = Readonly<Record<string, unknown>>

const isObject = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
const isPort = (value: unknown): value is number =>
  Number.isInteger(value) && Number(value) >= 0 && Number(value) < 65_536
const isText = (value: unknown): value is string => typeof value === 'string' && value !== ''

/** Adds to `problems` and gives null unless every field is right. */
export function parseConfig(text: string, problems: string[]): ControlConfig | null {
  const json: unknown = JSON.parse(text)
  if (!isObject(json)) throw new Error('not a JSON object')
  const before = problems.length
  const need = (holds: boolean, path: string, wanted: string): void => {
    if (!holds) problems.push(`control.json: ${path}: ${wanted}`)
  }
  for (const key of Object.keys(json))
    need(
      knownKeys.some((known) => known === key),
      key,
      'unknown key',
    )
  const { names, embedded, consul, leafSeconds } = json
  need(json['schema'] === 1, 'schema', 'must be 1')
  need(isText(json['mesh']) && isDottedName(json['mesh']), 'mesh', 'must be a lower-case name')
  need(
    isText(json['trustDomain']) && isDottedName(json['trustDomain']),
    'trustDomain',
    'must be a lower-case domain',
  )
  need(Array.isArray(names) && names.every(isText), 'names', 'must be a list of addresses and DNS names')
  need(isText(json['listen']), 'listen', 'must be an address')
  need(isPort(json['signerPort']), 'signerPort', 'must be a port')
  need(
    Number.isInteger(leafSeconds) &&
      Number(leafSeconds) >= leafBounds.least &&
      Number(leafSeconds) <= leafBounds.most,
    'leafSeconds',
    `must be a whole number from ${leafBounds.least} to ${leafBounds.most}`,
  )
  if (embedded !== null) {
    need(isObject(embedded) && isPort(embedded['port']), 'embedded.port', 'must be a port (or embedded null)')
    need(
      isObject(embedded) && isText(embedded['token']) && embedded['token'].length >= 16,
      'embedded.token',
      'must be a secret of at least 16 characters',
    )
  }
  if (consul !== null) {
    need(
      isObject(consul) && isText(consul['url']) && URL.canParse(consul['url']),
      'consul.url',
      'must be a URL (or consul null)',
    )
    need(
      isObject(consul) && (consul['token'] === null || isText(consul['token'])),
      'consul.token',
      'must be text or null',
    )
    need(
      isObject(consul) && (consul['ca'] === null || isText(consul['ca'])),
      'consul.ca',
      'must be PEM or null',
    )
  }
  need(
    (embedded === null) !== (consul === null),
    'embedded',
    'exactly one of embedded and consul must be given',
  )
  return problems.length > before ? null : (json as unknown as ControlConfig)
}
