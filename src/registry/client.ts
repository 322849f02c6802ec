// The one Registry: a client of the Consul HTTP API, for the embedded server and a real Consul alike.
import { MeshError } from '../errors.ts'
import type { RegistryConfig } from '../model/host.ts'
import { metaKeys } from '../model/service.ts'
import { parseChecks, parseEntries, parseInstances, parseNodes, parseServices, parseText } from './answer.ts'
import type { CheckStatus, Entry, Indexed, Operation, Query, Registration, Registry } from './registry.ts'
import { Remote } from './remote.ts'
import type { ConnectOptions } from './remote.ts'

/** Consul takes no more in one transaction. */
export const maxOperations = 64

/** Consul cuts longer outputs off (check_output_max_size). */
const maxOutput = 4096

export function connectRegistry(config: RegistryConfig, options: ConnectOptions = {}): Registry {
  const remote = new Remote(config.url, config, options)
  const local = config.localAgent === null ? remote : new Remote(config.localAgent, config, options)
  return new Client(remote, local)
}

class Client implements Registry {
  readonly #remote: Remote
  readonly #local: Remote

  constructor(remote: Remote, local: Remote) {
    this.#remote = remote
    this.#local = local
  }

  services(query?: Query): ReturnType<Registry['services']> {
    return this.#remote.read(
      'listing services',
      query,
      (c, o) => c.catalog.service.list({ ...o }),
      parseServices,
    )
  }

  instances(service: string, query?: Query): ReturnType<Registry['instances']> {
    return this.#remote.read(
      `listing instances of ${service}`,
      query,
      (c, o) => c.health.service({ ...o, service }),
      parseInstances,
    )
  }

  nodes(query?: Query): ReturnType<Registry['nodes']> {
    return this.#remote.read('listing nodes', query, (c, o) => c.catalog.node.list({ ...o }), parseNodes)
  }

  async register(registration: Registration, check: { status: CheckStatus; output: string }): Promise<void> {
    const { node, address, id, service, port, tags, meta } = registration
    const mesh = meta[metaKeys.mesh]
    await this.#remote.put(
      `registering ${id} of ${node}`,
      '/catalog/register',
      {},
      {
        Node: node,
        Address: address,
        ...(mesh === undefined ? {} : { NodeMeta: { [metaKeys.mesh]: mesh } }),
        Service: { ID: id, Service: service, Port: port, Tags: tags, Meta: meta },
        Check: {
          Node: node,
          CheckID: `service:${id}`,
          // The same as in setCheck: another name would be a change.
          Name: `service:${id}`,
          ServiceID: id,
          Status: check.status,
          Output: check.output.slice(0, maxOutput),
        },
      },
    )
  }

  async setCheck(
    node: string,
    address: string,
    serviceId: string | null,
    checkId: string,
    status: CheckStatus,
    output: string,
  ): Promise<void> {
    await this.#remote.put(
      `setting check ${checkId} of ${node}`,
      '/catalog/register',
      {},
      {
        Node: node,
        Address: address,
        SkipNodeUpdate: true,
        Check: {
          Node: node,
          CheckID: checkId,
          Name: checkId,
          ServiceID: serviceId ?? '',
          Status: status,
          Output: output.slice(0, maxOutput),
        },
      },
    )
  }

  async deregister(node: string, serviceId: string): Promise<void> {
    await this.#remote.ask(`deregistering ${serviceId} of ${node}`, (c, o) =>
      c.catalog.deregister({ ...o, node, serviceid: serviceId }),
    )
  }

  async deregisterNode(node: string): Promise<void> {
    await this.#remote.ask(`deregistering ${node}`, (c, o) => c.catalog.deregister({ ...o, node }))
  }

  async nodeChecks(node: string): ReturnType<Registry['nodeChecks']> {
    const found = await this.#remote.read(
      `listing checks of ${node}`,
      undefined,
      (c, o) => c.health.node({ ...o, node }),
      parseChecks,
    )
    return found.value
  }

  async get(key: string, query?: Query): Promise<Indexed<Entry | null>> {
    const found = await this.#remote.read(
      `reading ${key}`,
      query,
      (c, o) => c.kv.get({ ...o, key }),
      parseEntries,
    )
    return { index: found.index, value: found.value[0] ?? null }
  }

  list(prefix: string, query?: Query): Promise<Indexed<Entry[]>> {
    return this.#remote.read(
      `listing ${prefix}`,
      query,
      (c, o) => c.kv.get({ ...o, key: prefix, recurse: true }),
      parseEntries,
    )
  }

  async put(key: string, value: string): Promise<void> {
    await this.#set(key, value, {})
  }

  cas(key: string, value: string, index: string): Promise<boolean> {
    return this.#set(key, value, { cas: index })
  }

  async delete(key: string, options: { recurse?: boolean; cas?: string } = {}): Promise<boolean> {
    const [, body] = await this.#remote.ask(`deleting ${key}`, (c, o) => c.kv.del({ ...o, ...options, key }))
    return body === true
  }

  async transact(operations: readonly Operation[]): Promise<boolean> {
    const what = `writing ${operations.length} keys at once`
    if (operations.length === 0) return true
    if (operations.length > maxOperations) {
      throw new MeshError(
        'MSH0303',
        `${what}: the registry takes at most ${maxOperations} in one transaction`,
      )
    }
    const body = operations.map((operation) => ({ KV: wire(operation) }))
    const [, answer] = await this.#remote.ask(
      what,
      (c, o) => c.transaction.create(body, o),
      {},
      (status, refused) => (status === 409 && isStale(refused) ? [{ headers: {} }, null] : null),
    )
    return answer !== null
  }

  async createSession(options: { name: string; ttlSeconds: number; node?: string }): Promise<string> {
    const [, body] = await this.#remote.ask(`creating session ${options.name}`, (c, o) =>
      c.session.create({
        ...o,
        name: options.name,
        ttl: `${options.ttlSeconds}s`,
        // A node without a Consul agent has no serfHealth check to lean on; the TTL alone keeps its session.
        ...(options.node === undefined ? {} : { node: options.node, checks: [] }),
      }),
    )
    return parseText(body, 'ID')
  }

  async renewSession(id: string): Promise<boolean> {
    const [, body] = await this.#remote.ask(
      'renewing a session',
      (c, o) => c.session.renew({ ...o, id }),
      {},
      (status) => (status === 404 ? [{ headers: {} }, null] : null),
    )
    return body !== null
  }

  async destroySession(id: string): Promise<void> {
    await this.#remote.ask('ending a session', (c, o) => c.session.destroy({ ...o, id }))
  }

  acquire(key: string, value: string, session: string): Promise<boolean> {
    return this.#set(key, value, { acquire: session })
  }

  async release(key: string, session: string): Promise<boolean> {
    // Releasing writes a value: the one that is there.
    const { value } = await this.get(key)
    return value === null ? false : this.#set(key, value.value, { release: session })
  }

  async agentRegister(registration: Omit<Registration, 'node'>, ttlSeconds: number): Promise<void> {
    const { id, service: name, address, port, tags, meta } = registration
    await this.#local.ask(`registering ${id} with the Consul agent`, (c, o) =>
      c.agent.service.register({
        ...o,
        id,
        name,
        address,
        port,
        tags,
        meta,
        check: { ttl: `${ttlSeconds}s` },
      }),
    )
  }

  async agentDeregister(serviceId: string): Promise<void> {
    await this.#local.ask(`deregistering ${serviceId} with the Consul agent`, (c, o) =>
      c.agent.service.deregister({ ...o, id: serviceId }),
    )
  }

  async agentPass(checkId: string, status: CheckStatus, output: string): Promise<void> {
    const body = { Status: status, Output: output.slice(0, maxOutput) }
    await this.#local.put(`updating check ${checkId}`, '/agent/check/update/{id}', { id: checkId }, body)
  }

  async leader(): Promise<string> {
    const [, body] = await this.#remote.ask('asking for the leader', (c, o) => c.status.leader({ ...o }))
    if (typeof body === 'string' && body !== '') return body
    throw new MeshError('MSH0301', 'the registry has no leader', { hint: 'look at your Consul cluster' })
  }

  close(): void {
    this.#remote.close()
    if (this.#local !== this.#remote) this.#local.close()
  }

  async #set(key: string, value: string, how: Record<string, string>): Promise<boolean> {
    const [, body] = await this.#remote.ask(
      `writing ${key}`,
      (c, o) => c.kv.set({ ...o, ...how, key, value }),
      {},
      // A session that has ended holds nothing: not an error, the lock is lost.
      (status, refused) =>
        'acquire' in how && status === 500 && /invalid session/.test(String(refused))
          ? [{ headers: {} }, false]
          : null,
    )
    return body === true
  }
}

function wire(operation: Operation): object {
  const { verb, key } = operation
  if (verb === 'set') return { Verb: verb, Key: key, Value: base64(operation.value) }
  if (verb === 'cas') {
    return { Verb: verb, Key: key, Value: base64(operation.value), Index: Number(operation.index) }
  }
  if (verb === 'delete') return { Verb: verb, Key: key }
  // Consul's check-index fails on a key that is not there, whatever the index.
  if (verb === 'check-index' && operation.index === '0') return { Verb: 'check-not-exists', Key: key }
  return { Verb: verb, Key: key, Index: Number(operation.index) }
}

const base64 = (value: string): string => Buffer.from(value).toString('base64')

/** A transaction refused because somebody was first, and for no other reason. */
function isStale(body: unknown): boolean {
  if (typeof body !== 'object' || body === null || !('Errors' in body) || !Array.isArray(body.Errors))
    return false
  return body.Errors.every((error: unknown) => {
    const what = typeof error === 'object' && error !== null && 'What' in error ? String(error.What) : ''
    return /index is stale|failed index check|failed to check index|^key .* exists$/.test(what)
  })
}
