// The bodies of requests to the signer, checked field by field: they come from whoever reached the port. Unknown keys
// are refused. Each throws MSH0412.
import { createHash } from 'node:crypto'
import { isIP } from 'node:net'
import type { EntitlementRequest, GrantRequest, JoinRequest, SignRequest } from '../api/signer.ts'
import { MeshError } from '../errors.ts'
import { maxIdentities } from '../paths.ts'
import { isDottedName, isLabel } from '../pki/spiffe.ts'
import type { ServiceName } from './store.ts'

type Json = Readonly<Record<string, unknown>>

/** The host's own and one per service. */
const maxRequests = maxIdentities + 1
const hostKeyTypes = /^(ssh-ed25519|ecdsa-sha2-nistp(256|384|521)|ssh-rsa)$/

export function readGrantRequest(body: unknown): GrantRequest {
  const json = readObject(body, ['host', 'address', 'services', 'sshHostKey', 'replace'])
  const { address, replace, sshHostKey } = json
  if (typeof address !== 'string' || !(isIP(address) !== 0 || isDottedName(address))) throw bad('address')
  if (typeof replace !== 'boolean') throw bad('replace')
  if (typeof sshHostKey !== 'string') throw bad('sshHostKey')
  fingerprint(sshHostKey)
  return { host: readHostName(json), address, services: readServices(json['services']), sshHostKey, replace }
}

export function readJoinRequest(body: unknown): JoinRequest {
  const json = readObject(body, ['host', 'csrs'])
  return { host: readHostName(json), csrs: readRequests(json['csrs']) }
}

export function readSignRequest(body: unknown): SignRequest {
  return { csrs: readRequests(readObject(body, ['csrs'])['csrs']) }
}

export function readEntitlement(body: unknown): EntitlementRequest {
  return { services: readServices(readObject(body, ['services'])['services']) }
}

/** `SHA256:…` of an OpenSSH public key, as `ssh-keygen -l` prints it. */
export function fingerprint(sshHostKey: string): string {
  const [type = '', encoded = ''] = sshHostKey.trim().split(/\s+/)
  const blob = Buffer.from(encoded, 'base64')
  // The blob begins with its own type (RFC 4253 6.6): text and bytes must agree.
  const inner = blob.length > 4 ? blob.subarray(4, 4 + blob.readUInt32BE(0)).toString('latin1') : ''
  if (sshHostKey.length > 4096 || !hostKeyTypes.test(type) || inner !== type) throw bad('sshHostKey')
  return `SHA256:${createHash('sha256').update(blob).digest('base64').replace(/=+$/, '')}`
}

function readObject(body: unknown, known: readonly string[]): Json {
  if (typeof body !== 'object' || body === null || Array.isArray(body))
    throw new MeshError('MSH0412', 'the body must be an object')
  for (const key of Object.keys(body)) {
    if (!known.includes(key))
      throw new MeshError('MSH0412', `the body holds an unknown key: ${JSON.stringify(key.slice(0, 40))}`)
  }
  return body as Json
}

function readHostName(json: Json): string {
  const { host } = json
  if (typeof host !== 'string' || !isDottedName(host)) throw bad('host')
  return host
}

function readServices(value: unknown): ServiceName[] {
  if (!Array.isArray(value) || value.length > maxIdentities) throw bad('services')
  const services = value.map((item: unknown): ServiceName => {
    const { name, namespace } = readObject(item, ['name', 'namespace'])
    if (typeof name !== 'string' || !isLabel(name)) throw bad('services[].name')
    if (typeof namespace !== 'string' || !isLabel(namespace)) throw bad('services[].namespace')
    return { name, namespace }
  })
  if (new Set(services.map(({ name, namespace }) => `${name}.${namespace}`)).size !== services.length)
    throw bad('services')
  return services
}

function readRequests(value: unknown): string[] {
  if (!Array.isArray(value) || value.length === 0 || value.length > maxRequests) throw bad('csrs')
  return value.map((item: unknown) => {
    if (typeof item !== 'string') throw bad('csrs[]')
    return item
  })
}

function bad(field: string): MeshError {
  return new MeshError('MSH0412', `the body is not valid: ${field}`)
}
