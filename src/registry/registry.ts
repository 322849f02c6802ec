// What meshctl asks of a registry. One implementation (client.ts, on the `consul` package) for the embedded server and
// a real Consul alike.

export interface Query {
  /** Blocking query: return when the index has passed this one, or after `waitMs`. */
  readonly index?: string
  readonly waitMs?: number
  readonly signal?: AbortSignal
}

/** An answer and the index (X-Consul-Index) to block on next. */
export interface Indexed<T> {
  readonly index: string
  readonly value: T
}

export interface Instance {
  readonly node: string
  readonly nodeAddress: string
  readonly id: string
  readonly service: string
  /** The service's own address, or the node's where it has none. */
  readonly address: string
  readonly port: number
  readonly tags: readonly string[]
  readonly meta: Readonly<Record<string, string>>
  /** All checks of the service and of its node pass. */
  readonly passing: boolean
  readonly checks: readonly { readonly id: string; readonly status: string; readonly output: string }[]
}

export interface Registration {
  readonly node: string
  readonly address: string
  readonly id: string
  readonly service: string
  readonly port: number
  readonly tags: readonly string[]
  readonly meta: Readonly<Record<string, string>>
}

export type CheckStatus = 'passing' | 'warning' | 'critical'

export interface Entry {
  readonly key: string
  readonly value: string
  readonly modifyIndex: string
}

export type Operation =
  | { readonly verb: 'set'; readonly key: string; readonly value: string }
  | { readonly verb: 'cas'; readonly key: string; readonly value: string; readonly index: string }
  | { readonly verb: 'delete'; readonly key: string }
  | { readonly verb: 'delete-cas'; readonly key: string; readonly index: string }
  | { readonly verb: 'check-index'; readonly key: string; readonly index: string }

/** All methods throw MeshError MSH0301 (unreachable), MSH0302 (denied) or MSH0303 (refused). */
export interface Registry {
  services(query?: Query): Promise<Indexed<Record<string, readonly string[]>>>
  /** Every instance, passing or not. */
  instances(service: string, query?: Query): Promise<Indexed<Instance[]>>
  nodes(query?: Query): Promise<Indexed<{ name: string; address: string; meta: Record<string, string> }[]>>

  /** Registers node, service and its check in the catalogue (a host without a Consul agent). */
  register(registration: Registration, check: { status: CheckStatus; output: string }): Promise<void>
  /** Sets the status of a check of a node (service id null) or of one of its services. */
  setCheck(
    node: string,
    address: string,
    serviceId: string | null,
    checkId: string,
    status: CheckStatus,
    output: string,
  ): Promise<void>
  deregister(node: string, serviceId: string): Promise<void>
  deregisterNode(node: string): Promise<void>
  /** Check ids and states of one node. */
  nodeChecks(node: string): Promise<{ id: string; serviceId: string; status: CheckStatus; output: string }[]>

  get(key: string, query?: Query): Promise<Indexed<Entry | null>>
  list(prefix: string, query?: Query): Promise<Indexed<Entry[]>>
  put(key: string, value: string): Promise<void>
  /** Check-and-set; index '0' means "must not exist". False: somebody else was first. */
  cas(key: string, value: string, index: string): Promise<boolean>
  delete(key: string, options?: { recurse?: boolean; cas?: string }): Promise<boolean>
  /** All or nothing; false when a cas or check-index did not hold. */
  transact(operations: readonly Operation[]): Promise<boolean>

  createSession(options: { name: string; ttlSeconds: number; node?: string }): Promise<string>
  renewSession(id: string): Promise<boolean>
  destroySession(id: string): Promise<void>
  acquire(key: string, value: string, session: string): Promise<boolean>
  release(key: string, session: string): Promise<boolean>

  /** Registers with the local Consul agent, with one TTL check `service:<id>`. Only for a client of a local agent. */
  agentRegister(registration: Omit<Registration, 'node'>, ttlSeconds: number): Promise<void>
  agentDeregister(serviceId: string): Promise<void>
  agentPass(checkId: string, status: CheckStatus, output: string): Promise<void>

  leader(): Promise<string>
  close(): void
}

/** Keys of the mesh in the registry's KV store. */
export const keys = {
  config: (mesh: string): string => `meshctl/${mesh}/config/`,
  resource: (mesh: string, kind: string, namespace: string, name: string): string =>
    `meshctl/${mesh}/config/${kind}/${namespace}/${name}`,
  /** One key per virtual address; the value names its service. */
  vips: (mesh: string): string => `meshctl/${mesh}/vips/`,
  /**
   * Renewed by each host every few seconds; control marks a host critical whose key stands still. The value must differ
   * from the last one: a put of an equal value changes no index, in Consul as here.
   */
  leases: (mesh: string): string => `meshctl/${mesh}/leases/`,
  /** What each host last said of itself (HostReport, JSON). */
  reports: (mesh: string): string => `meshctl/${mesh}/reports/`,
} as const

export const leaseEveryMs = 3000
export const leaseExpiryMs = 10000
/** The check by which control marks a host that is gone. */
export const leaseCheckId = 'meshctl-lease'
/** The check of the same meaning that a Consul agent keeps on its own node. */
export const serfCheckId = 'serfHealth'
/** Checks of a node that say only that nothing is heard of it. */
export const signOfLifeIds: readonly string[] = [leaseCheckId, serfCheckId]

/** What a host says of itself, for `meshctl status`. */
export interface HostReport {
  readonly schema: 1
  readonly host: string
  readonly address: string
  readonly version: string
  readonly bootId: string
  readonly snapshot: string
  readonly proxy: 'ok' | 'down' | 'rejected'
  readonly capture: 'ok' | 'drifted' | 'off' | 'failed'
  readonly dns: 'ok' | 'off' | 'failed'
  readonly services: readonly {
    readonly name: string
    readonly namespace: string
    readonly status: CheckStatus
  }[]
  /** Earliest end of a served certificate, ms since the epoch. */
  readonly certificateNotAfter: number
  readonly problems: readonly string[]
  /** Null until they were read. */
  readonly machine: MachineFacts | null
  /** When it was written, ISO 8601. */
  readonly at: string
}

/** What a host runs on. */
export interface MachineFacts {
  /** `Debian GNU/Linux 12` */
  readonly os: string
  readonly kernel: string
  readonly arch: string
  readonly cores: number
  readonly memoryBytes: number
  /** The hypervisor's name, `yes` where it has none, or `no`. */
  readonly virtual: string
}
