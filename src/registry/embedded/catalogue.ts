// Nodes, services and checks as rows, with Consul's rules: a registration that changes nothing changes no index, a
// service takes its checks with it, a node everything.
import { json, text } from './database.ts'
import type { Database, Write } from './database.ts'
import { Fault } from './fault.ts'
import { checkRecord, nodeRecord, serviceRecord } from './records.ts'
import type { CheckRecord, NodeRecord, ServiceRecord } from './records.ts'

type New<T> = Omit<T, 'created' | 'modified'>

/** Told when checks change or nodes go, so that sessions that lean on them end. */
export type CatalogueListener = (write: Write, change: { node: string; check: string | null }) => void

export class Catalogue {
  readonly #db: Database
  #listener: CatalogueListener = () => {}

  constructor(db: Database) {
    this.#db = db
  }

  /** `check` null: the node itself went. */
  lost(listener: CatalogueListener): void {
    this.#listener = listener
  }

  nodes(): NodeRecord[] {
    return this.#db.all('select * from nodes order by node').map(nodeRecord)
  }

  node(name: string): NodeRecord | null {
    const row = this.#db.get('select * from nodes where node = ?', name)
    return row === undefined ? null : nodeRecord(row)
  }

  servicesOf(node: string): ServiceRecord[] {
    return this.#db.all('select * from services where node = ? order by id', node).map(serviceRecord)
  }

  /** Services and checks of a node. */
  sizeOf(node: string): number {
    const count = (table: string): number =>
      Number(this.#db.get(`select count(*) as n from ${table} where node = ?`, node)?.['n'] ?? 0)
    return count('services') + count('checks')
  }

  instances(service: string): ServiceRecord[] {
    return this.#db.all('select * from services where name = ? order by node, id', service).map(serviceRecord)
  }

  /** Every service name with the tags of all its instances. */
  names(): Record<string, string[]> {
    const names = new Map<string, Set<string>>()
    for (const row of this.#db.all('select name, tags from services order by name')) {
      const name = text(row, 'name')
      const tags = names.get(name) ?? new Set()
      for (const tag of json(row, 'tags') as string[]) tags.add(tag)
      names.set(name, tags)
    }
    return Object.fromEntries([...names].map(([name, tags]) => [name, [...tags].toSorted()]))
  }

  checksOf(node: string): CheckRecord[] {
    return this.#db.all('select * from checks where node = ? order by id', node).map(checkRecord)
  }

  checksOfService(service: string): CheckRecord[] {
    return this.#db
      .all('select * from checks where service_name = ? order by node, id', service)
      .map(checkRecord)
  }

  /** `any` or a status. */
  checksIn(state: string): CheckRecord[] {
    const rows =
      state === 'any'
        ? this.#db.all('select * from checks order by node, id')
        : this.#db.all('select * from checks where status = ? order by node, id', state)
    return rows.map(checkRecord)
  }

  check(node: string, id: string): CheckRecord | null {
    const row = this.#db.get('select * from checks where node = ? and id = ?', node, id)
    return row === undefined ? null : checkRecord(row)
  }

  putNode(write: Write, node: New<NodeRecord>): void {
    const old = this.node(node.node)
    // A registration without an id keeps the one that the node has.
    const next = { ...node, id: node.id === '' ? (old?.id ?? '') : node.id }
    if (old !== null && equal(old, next)) return
    this.#db.run(
      'insert or replace into nodes (node, id, address, tagged, meta, created, modified) values (?, ?, ?, ?, ?, ?, ?)',
      next.node,
      next.id,
      next.address,
      JSON.stringify(next.tagged),
      JSON.stringify(next.meta),
      old?.created ?? write.index,
      write.index,
    )
    write.touch('nodes')
    this.#touchNode(write, next.node)
  }

  putService(write: Write, service: New<ServiceRecord>): void {
    if (this.node(service.node) === null)
      throw new Fault(500, 'failed inserting service: Missing node registration')
    const row = this.#db.get('select * from services where node = ? and id = ?', service.node, service.id)
    const old = row === undefined ? null : serviceRecord(row)
    if (old !== null && equal(old, service)) return
    this.#db.run(
      `insert or replace into services (node, id, name, tags, address, port, meta, weights, override, created, modified)
       values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
      service.node,
      service.id,
      service.name,
      JSON.stringify(service.tags),
      service.address,
      service.port,
      JSON.stringify(service.meta),
      JSON.stringify(service.weights),
      service.override ? 1 : 0,
      old?.created ?? write.index,
      write.index,
    )
    this.#db.run(
      'update checks set service_name = ?, service_tags = ? where node = ? and service_id = ?',
      service.name,
      JSON.stringify(service.tags),
      service.node,
      service.id,
    )
    this.#touchService(write, service)
    if (old !== null && old.name !== service.name) write.touch(`service:${old.name}`)
  }

  putCheck(write: Write, check: Omit<New<CheckRecord>, 'serviceName' | 'serviceTags'>): void {
    if (this.node(check.node) === null)
      throw new Fault(500, 'failed inserting check: Missing node registration')
    let service: ServiceRecord | null = null
    if (check.serviceId !== '') {
      const row = this.#db.get(
        'select * from services where node = ? and id = ?',
        check.node,
        check.serviceId,
      )
      if (row === undefined) {
        throw new Fault(500, `failed inserting check: Missing service registration on node "${check.node}"`)
      }
      service = serviceRecord(row)
    }
    const old = this.check(check.node, check.id)
    const next: New<CheckRecord> = {
      ...check,
      serviceName: service?.name ?? '',
      serviceTags: service?.tags ?? [],
    }
    if (old !== null && equal(old, next)) return
    this.#db.run(
      `insert or replace into checks
       (node, id, name, status, notes, output, service_id, service_name, service_tags, type, created, modified)
       values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
      next.node,
      next.id,
      next.name,
      next.status,
      next.notes,
      next.output,
      next.serviceId,
      next.serviceName,
      JSON.stringify(next.serviceTags),
      next.type,
      old?.created ?? write.index,
      write.index,
    )
    this.#touchCheck(write, next)
    if (next.status === 'critical') this.#listener(write, { node: next.node, check: next.id })
  }

  removeCheck(write: Write, node: string, id: string): void {
    const old = this.check(node, id)
    if (old === null) return
    this.#db.run('delete from checks where node = ? and id = ?', node, id)
    this.#touchCheck(write, old)
    this.#listener(write, { node, check: id })
  }

  removeService(write: Write, node: string, id: string): void {
    const row = this.#db.get('select * from services where node = ? and id = ?', node, id)
    if (row === undefined) return
    for (const check of this.checksOf(node))
      if (check.serviceId === id) this.removeCheck(write, node, check.id)
    this.#db.run('delete from services where node = ? and id = ?', node, id)
    this.#touchService(write, serviceRecord(row))
  }

  removeNode(write: Write, node: string): void {
    if (this.node(node) === null) return
    for (const service of this.servicesOf(node)) this.removeService(write, node, service.id)
    for (const check of this.checksOf(node)) this.removeCheck(write, node, check.id)
    this.#db.run('delete from nodes where node = ?', node)
    write.touch('nodes')
    write.touch(`node:${node}`)
    this.#listener(write, { node, check: null })
  }

  #touchNode(write: Write, node: string): void {
    write.touch(`node:${node}`)
    for (const service of this.servicesOf(node)) write.touch(`service:${service.name}`)
  }

  #touchService(write: Write, service: { node: string; name: string }): void {
    write.touch('services')
    write.touch(`node:${service.node}`)
    write.touch(`service:${service.name}`)
  }

  #touchCheck(write: Write, check: { node: string; serviceName: string }): void {
    write.touch('checks')
    write.touch(`health:${check.node}`)
    if (check.serviceName !== '') write.touch(`service:${check.serviceName}`)
    else for (const service of this.servicesOf(check.node)) write.touch(`service:${service.name}`)
  }
}

/** Equal but for the indexes. */
function equal(old: object, next: object): boolean {
  const kept = new Map(Object.entries(old))
  return Object.entries(next).every(([name, value]) => canonical(kept.get(name)) === canonical(value))
}

function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) =>
    typeof inner === 'object' && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).toSorted(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  )
}
