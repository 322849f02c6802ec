// What control signs, and for whom. No HTTP here: server.ts knows who calls, this file knows what they may have.
import type {
  EntitlementRequest,
  GrantReply,
  GrantRequest,
  HostRecord,
  JoinRequest,
  SignReply,
  SignRequest,
} from '../api/signer.ts'
import type { Clock } from '../clock.ts'
import { MeshError } from '../errors.ts'
import type { Log } from '../log.ts'
import { hostSpiffe, serviceSpiffe } from '../model/service.ts'
import { readCertificate } from '../pki/cert.ts'
import { readRequest } from '../pki/csr.ts'
import type { CertificateRequest } from '../pki/csr.ts'
import { makeLeaf, operatorSeconds } from '../pki/issue.ts'
import type { OperatorIdentity } from '../pki/spiffe.ts'
import type { ControlSetup } from './config.ts'
import { alreadyUsed, createGrant, findGrant } from './grant.ts'
import type { HostRow, ServiceName, Store } from './store.ts'

/** The embedded registry's tokens; null with a real Consul, whose tokens are the operator's. */
export interface Tokens {
  create(host: string): Promise<string>
  revoke(host: string): Promise<void>
  /** Removes registrations that the host's entitlement no longer covers. */
  prune(host: string): Promise<void>
}

export interface SignerParts {
  readonly setup: ControlSetup
  readonly store: Store
  readonly tokens: Tokens | null
  readonly clock: Clock
  readonly log: Log
}

export class Signer {
  readonly #setup: ControlSetup
  readonly #store: Store
  readonly #tokens: Tokens | null
  readonly #clock: Clock
  readonly #log: Log

  constructor({ setup, store, tokens, clock, log }: SignerParts) {
    this.#setup = setup
    this.#store = store
    this.#tokens = tokens
    this.#clock = clock
    this.#log = log
  }

  grant(wanted: GrantRequest, operator: string): GrantReply {
    const reply = createGrant(this.#store, this.#clock, wanted)
    const { host, address, services, replace } = wanted
    this.#log.info(
      { event: 'grant', host, address, services: services.map(printed), replace, operator },
      'grant made',
    )
    return reply
  }

  /** `from` is the caller's address, for the log. */
  async join(secret: string, wanted: JoinRequest, from: string): Promise<SignReply> {
    const grant = findGrant(this.#store, this.#clock, secret, wanted.host)
    const requests = wanted.csrs.map(readRequest)
    const ids = this.#checkIds(requests, wanted.host, grant.services, 'MSH0408')
    if (requests[0]?.spiffe.id !== hostSpiffe(this.#setup.config.trustDomain, wanted.host)) {
      throw new MeshError('MSH0408', `the first request must be for the host ${wanted.host} itself`)
    }
    const missing = grant.services.find((service) => !ids.has(this.#serviceId(service)))
    if (missing !== undefined) {
      throw new MeshError('MSH0408', `the grant is for ${printed(missing)} too, but no request asks for it`)
    }
    const known = this.#store.host(wanted.host)
    const leafs = requests.map((request) => this.#issue(request))
    // From here on the grant is used up. Of joins that come at once, one passes.
    if (!this.#store.redeem(grant, this.#clock.now())) throw alreadyUsed()
    for (const leaf of leafs) this.#audit(leaf, 'join', from)
    if (this.#tokens !== null && known !== null && known.sshFingerprint !== grant.sshFingerprint) {
      // Another machine takes the name: what the old one holds must end.
      await this.#tokens.revoke(wanted.host)
    }
    await this.#tokens?.prune(wanted.host)
    const registryToken = this.#tokens === null ? null : await this.#tokens.create(wanted.host)
    return this.#reply(leafs, registryToken)
  }

  /**
   * `lapsedAt`: the caller's leaf has ended, and this is when it was issued. Only the newest leaf of a host may still be
   * renewed then, so that keys of older ones are worth nothing. Null: the caller's leaf is valid.
   */
  sign(wanted: SignRequest, host: string, from: string, lapsedAt: number | null = null): SignReply {
    const record = this.#valid(host)
    // Certificates hold whole seconds, and the record is written a little after the signature.
    if (lapsedAt !== null && lapsedAt < record.renewedAt - 5000) {
      throw new MeshError('MSH0411', `the host ${host} has had a newer certificate than this expired one`, {
        hint: `run \`meshctl join\` for ${host} again; it keeps its services`,
      })
    }
    const requests = wanted.csrs.map(readRequest)
    const ids = this.#checkIds(requests, host, record.services, 'MSH0404')
    const leafs = requests.map((request) => this.#issue(request))
    if (ids.has(hostSpiffe(this.#setup.config.trustDomain, host)))
      this.#store.renewed(host, this.#clock.now())
    for (const leaf of leafs) this.#audit(leaf, lapsedAt === null ? 'renewal' : 'lapsed', from)
    return this.#reply(leafs, null)
  }

  renewOperator(wanted: SignRequest, operator: OperatorIdentity, from: string): SignReply {
    const [request, ...others] = wanted.csrs.map(readRequest)
    if (request === undefined || others.length > 0)
      throw new MeshError('MSH0412', 'exactly one request is wanted')
    if (request.spiffe.id !== operator.id)
      throw new MeshError('MSH0404', `only ${operator.id} can be renewed by its holder`)
    const leaf = this.#issue(request, operatorSeconds)
    this.#audit(leaf, 'operator', from)
    return this.#reply([leaf], null)
  }

  hosts(): HostRecord[] {
    return this.#store.hosts().map(printHost)
  }

  async entitle(host: string, { services }: EntitlementRequest, operator: string): Promise<HostRecord> {
    this.#valid(host)
    this.#store.entitle(host, services)
    await this.#tokens?.prune(host)
    this.#log.info(
      { event: 'entitlement', host, services: services.map(printed), operator },
      'entitlement changed',
    )
    return printHost(this.#valid(host))
  }

  /** Idempotent. Leafs that are out live to their end; nothing new is signed and the registry refuses the host at once. */
  async revoke(host: string, operator: string): Promise<void> {
    if (this.#store.host(host) === null) throw unknownHost(host)
    this.#store.revoke(host, this.#clock.now())
    await this.#tokens?.revoke(host)
    await this.#tokens?.prune(host)
    this.#log.info({ event: 'revoked', host, operator }, 'host revoked')
  }

  #valid(host: string): HostRow {
    const record = this.#store.host(host)
    if (record === null) throw unknownHost(host)
    if (record.revoked) {
      throw new MeshError('MSH0410', `the host ${host} is revoked`, {
        hint: `\`meshctl join ${host}\` puts it back`,
      })
    }
    return record
  }

  /** Only the host's own id and services that it is entitled to, each once; otherwise `code`. */
  #checkIds(
    requests: readonly CertificateRequest[],
    host: string,
    services: readonly ServiceName[],
    code: 'MSH0404' | 'MSH0408',
  ): Set<string> {
    const own = hostSpiffe(this.#setup.config.trustDomain, host)
    const entitled = new Set([own, ...services.map((service) => this.#serviceId(service))])
    const ids = new Set<string>()
    for (const { spiffe } of requests) {
      if (!entitled.has(spiffe.id)) {
        this.#log.warn(
          { event: 'refused', host, spiffe: spiffe.id },
          'request for an identity that the host may not have',
        )
        throw new MeshError(code, `the host ${host} is not entitled to ${spiffe.id}`, {
          hint: 'an operator names the services of a host at join or by its entitlement',
        })
      }
      if (ids.has(spiffe.id)) throw new MeshError(code, `two requests ask for ${spiffe.id}`)
      ids.add(spiffe.id)
    }
    return ids
  }

  #serviceId({ name, namespace }: ServiceName): string {
    return serviceSpiffe(this.#setup.config.trustDomain, namespace, name)
  }

  #issue(request: CertificateRequest, lifeSeconds: number = this.#setup.config.leafSeconds): string {
    const { issuer } = this.#setup
    return makeLeaf({
      issuer,
      publicKey: request.publicKey,
      spiffe: request.spiffe.id,
      now: this.#clock.now(),
      lifeSeconds,
    })
  }

  #audit(leaf: string, cause: string, from: string): void {
    const { serial, names, notAfter, fingerprint } = readCertificate(leaf)
    const until = new Date(notAfter).toISOString()
    this.#log.info(
      { event: 'issued', spiffe: names.uris[0], serial, fingerprint, until, cause, from },
      'certificate issued',
    )
  }

  #reply(leafs: readonly string[], registryToken: string | null): SignReply {
    const { issuer, roots } = this.#setup
    return { chains: leafs.map((leaf) => leaf + issuer.certificate.pem), roots, registryToken }
  }
}

function printHost(row: HostRow): HostRecord {
  return {
    host: row.host,
    address: row.address,
    services: row.services,
    sshFingerprint: row.sshFingerprint,
    joinedAt: new Date(row.joinedAt).toISOString(),
    renewedAt: new Date(row.renewedAt).toISOString(),
    revoked: row.revoked,
  }
}

function printed({ name, namespace }: ServiceName): string {
  return `${name}.${namespace}`
}

function unknownHost(host: string): MeshError {
  return new MeshError('MSH0410', `the host ${host} is not known`, {
    hint: `\`meshctl join ${host}\` makes it known`,
  })
}
