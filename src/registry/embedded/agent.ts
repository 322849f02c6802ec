// /v1/agent: services and TTL checks of the machine that the registry runs on, as a Consul agent keeps them.
import type { Clock, Timer } from '../../clock.ts'
import type { Database } from './database.ts'
import { mayManage, mayRead } from './access.ts'
import { checkBody, parseService } from './catalog.ts'
import type { Catalogue } from './catalogue.ts'
import type { CheckRecord } from './records.ts'
import { integer, text } from './database.ts'
import { Fault } from './fault.ts'
import { done, duration, isObject, objectField, ok, parseObject, stringField } from './request.ts'
import type { Call, Reply, Route } from './request.ts'

const statuses = ['passing', 'warning', 'critical']

export class LocalAgent {
  readonly #db: Database
  readonly #catalogue: Catalogue
  readonly #clock: Clock
  readonly #node: string
  readonly #failed: (error: unknown) => void
  readonly #timers = new Map<string, Timer>()

  constructor(
    db: Database,
    catalogue: Catalogue,
    clock: Clock,
    node: string,
    failed: (error: unknown) => void,
  ) {
    this.#db = db
    this.#catalogue = catalogue
    this.#clock = clock
    this.#node = node
    this.#failed = failed
    for (const row of db.all('select id, ttl from local_checks'))
      this.#arm(text(row, 'id'), integer(row, 'ttl'))
  }

  routes(): Route[] {
    return [
      { method: 'GET', path: 'agent/services', handle: ({ who }) => (mayRead(who), ok(this.#services())) },
      { method: 'GET', path: 'agent/checks', handle: ({ who }) => (mayRead(who), ok(this.#checks())) },
      { method: 'PUT', path: 'agent/service/register', handle: (call) => this.#registerService(call) },
      { method: 'PUT', path: 'agent/service/deregister/*', handle: (call) => this.#deregisterService(call) },
      { method: 'PUT', path: 'agent/check/register', handle: (call) => this.#registerCheck(call) },
      { method: 'PUT', path: 'agent/check/deregister/*', handle: (call) => this.#deregisterCheck(call) },
      { method: 'PUT', path: 'agent/check/pass/*', handle: (call) => this.#note(call, 'passing') },
      { method: 'PUT', path: 'agent/check/warn/*', handle: (call) => this.#note(call, 'warning') },
      { method: 'PUT', path: 'agent/check/fail/*', handle: (call) => this.#note(call, 'critical') },
      {
        method: 'PUT',
        path: 'agent/check/update/*',
        handle: (call) => {
          const asked = parseObject(call.body)
          const status = stringField(asked, 'Status')
          if (!statuses.includes(status)) throw new Fault(400, `Invalid check status: '${status}'`)
          return this.#update(call, status, stringField(asked, 'Output'))
        },
      },
    ]
  }

  close(): void {
    for (const timer of this.#timers.values()) timer.cancel()
    this.#timers.clear()
  }

  #services(): Record<string, unknown> {
    const own = this.#catalogue.servicesOf(this.#node).map((service) => [
      service.id,
      {
        ID: service.id,
        Service: service.name,
        Tags: service.tags,
        Meta: service.meta ?? {},
        Port: service.port,
        Address: service.address,
        Weights: service.weights,
        EnableTagOverride: service.override,
      },
    ])
    return Object.fromEntries(own) as Record<string, unknown>
  }

  #checks(): Record<string, unknown> {
    const own = this.#catalogue.checksOf(this.#node).filter((check) => check.type === 'ttl')
    return Object.fromEntries(own.map((check) => [check.id, checkBody(check)]))
  }

  async #registerService({ body, who }: Call): Promise<Reply> {
    mayManage(who)
    const asked = parseObject(body)
    const name = stringField(asked, 'Name')
    if (name === '') throw new Fault(400, 'Missing service name')
    const service = parseService(this.#node, { ...asked, Service: name })
    const single = objectField(asked, 'Check')
    const several = asked['Checks'] ?? []
    if (!Array.isArray(several) || !several.every(isObject)) throw new Fault(400, 'Invalid checks')
    const checks = [...(single === null ? [] : [single]), ...several].map((check, at, all) => {
      const id = stringField(check, 'CheckID') || `service:${service.id}${all.length > 1 ? `:${at + 1}` : ''}`
      return this.#parseCheck(check, id, stringField(check, 'Name') || `Service '${name}' check`, service.id)
    })
    await this.#db.write((write) => {
      this.#catalogue.putService(write, service)
      for (const { check, ttlMs } of checks) {
        // A check that is there keeps its state: registering again must not take an instance out of service.
        const old = this.#catalogue.check(this.#node, check.id)
        this.#catalogue.putCheck(
          write,
          old === null ? check : { ...check, status: old.status, output: old.output },
        )
        this.#db.run('insert or replace into local_checks (id, ttl) values (?, ?)', check.id, ttlMs)
      }
    })
    for (const { check, ttlMs } of checks) this.#arm(check.id, ttlMs)
    return done
  }

  async #deregisterService({ rest: id, who }: Call): Promise<Reply> {
    mayManage(who)
    const own = this.#catalogue.checksOf(this.#node).filter((check) => check.serviceId === id)
    await this.#db.write((write) => {
      this.#catalogue.removeService(write, this.#node, id)
      for (const check of own) this.#db.run('delete from local_checks where id = ?', check.id)
    })
    for (const check of own) this.#disarm(check.id)
    return done
  }

  async #registerCheck({ body, who }: Call): Promise<Reply> {
    mayManage(who)
    const asked = parseObject(body)
    const name = stringField(asked, 'Name')
    if (name === '') throw new Fault(400, 'Missing check name')
    const serviceId = stringField(asked, 'ServiceID')
    if (
      serviceId !== '' &&
      !this.#catalogue.servicesOf(this.#node).some((service) => service.id === serviceId)
    ) {
      throw new Fault(500, `ServiceID ${JSON.stringify(serviceId)} does not exist`)
    }
    const id = stringField(asked, 'ID') || stringField(asked, 'CheckID') || name
    const { check, ttlMs } = this.#parseCheck(asked, id, name, serviceId)
    await this.#db.write((write) => {
      const old = this.#catalogue.check(this.#node, id)
      this.#catalogue.putCheck(
        write,
        old === null ? check : { ...check, status: old.status, output: old.output },
      )
      this.#db.run('insert or replace into local_checks (id, ttl) values (?, ?)', id, ttlMs)
    })
    this.#arm(id, ttlMs)
    return done
  }

  async #deregisterCheck({ rest: id, who }: Call): Promise<Reply> {
    mayManage(who)
    if (this.#ttl(id) !== null) {
      await this.#db.write((write) => {
        this.#catalogue.removeCheck(write, this.#node, id)
        this.#db.run('delete from local_checks where id = ?', id)
      })
      this.#disarm(id)
    }
    return done
  }

  #note(call: Call, status: string): Promise<Reply> {
    return this.#update(call, status, call.query.get('note') ?? '')
  }

  async #update({ rest: id, who }: Call, status: string, output: string): Promise<Reply> {
    mayManage(who)
    const ttl = this.#ttl(id)
    if (ttl === null) throw new Fault(500, `CheckID ${JSON.stringify(id)} does not have associated TTL`)
    await this.#set(id, () => ({ status, output }))
    this.#arm(id, ttl)
    return done
  }

  #set(id: string, next: (old: CheckRecord) => { status: string; output: string }): Promise<void> {
    return this.#db.write((write) => {
      const old = this.#catalogue.check(this.#node, id)
      if (old !== null) this.#catalogue.putCheck(write, { ...old, ...next(old) })
    })
  }

  #parseCheck(
    asked: Record<string, unknown>,
    id: string,
    name: string,
    serviceId: string,
  ): { check: Parameters<Catalogue['putCheck']>[1]; ttlMs: number } {
    const ttlMs = duration(stringField(asked, 'TTL'))
    if (ttlMs === null || ttlMs <= 0) throw new Fault(400, 'Invalid check: TTL must be > 0 for TTL checks')
    const status = stringField(asked, 'Status') || 'critical'
    if (!statuses.includes(status)) throw new Fault(400, `Invalid check status: '${status}'`)
    const notes = stringField(asked, 'Notes')
    return {
      check: { node: this.#node, id, name, status, notes, output: '', serviceId, type: 'ttl' },
      ttlMs: Math.ceil(ttlMs),
    }
  }

  #ttl(id: string): number | null {
    const row = this.#db.get('select ttl from local_checks where id = ?', id)
    return row === undefined ? null : integer(row, 'ttl')
  }

  #arm(id: string, ttlMs: number): void {
    this.#disarm(id)
    const expired = (old: CheckRecord): { status: string; output: string } => ({
      status: 'critical',
      output: `TTL expired (last output before timeout follows): ${old.output.replace(/^TTL expired \(.*?\): /, '')}`,
    })
    this.#timers.set(
      id,
      this.#clock.after(ttlMs, () => {
        this.#timers.delete(id)
        this.#set(id, expired).catch(this.#failed)
      }),
    )
  }

  #disarm(id: string): void {
    this.#timers.get(id)?.cancel()
    this.#timers.delete(id)
  }
}
