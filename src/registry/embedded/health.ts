// /v1/health: services with their checks, and checks by node, service or state.
import type { Database } from './database.ts'
import { mayRead } from './access.ts'
import { checkBody, nodeBody, serviceBody, watch } from './catalog.ts'
import type { Catalogue } from './catalogue.ts'
import { answer } from './request.ts'
import type { Call, Route } from './request.ts'
import type { Watch } from './waits.ts'
import { Fault } from './fault.ts'

const states = ['any', 'passing', 'warning', 'critical']

export function healthRoutes(db: Database, catalogue: Catalogue): Route[] {
  return [
    { method: 'GET', path: 'health/service/*', handle: (call) => service(db, catalogue, call) },
    {
      method: 'GET',
      path: 'health/node/*',
      handle: (call) => {
        if (call.rest === '') throw new Fault(400, 'Missing node name')
        const topic = `health:${call.rest}`
        return watch(topic, () => [db.changedAt(topic), catalogue.checksOf(call.rest).map(checkBody)])(call)
      },
    },
    {
      method: 'GET',
      path: 'health/checks/*',
      handle: (call) => {
        if (call.rest === '') throw new Fault(400, 'Missing service name')
        mayRead(call.who)
        const topic = `service:${call.rest}`
        return {
          topic,
          question: 'checks',
          read: () => answer(db.changedAt(topic), catalogue.checksOfService(call.rest).map(checkBody)),
        }
      },
    },
    {
      method: 'GET',
      path: 'health/state/*',
      handle: (call) => {
        if (!states.includes(call.rest)) throw new Fault(400, `Invalid state: one of ${states.join(', ')}`)
        mayRead(call.who)
        return {
          topic: 'checks',
          question: `state ${call.rest}`,
          read: () => answer(db.changedAt('checks'), catalogue.checksIn(call.rest).map(checkBody)),
        }
      },
    },
  ]
}

function service(db: Database, catalogue: Catalogue, { rest: name, query, who }: Call): Watch {
  mayRead(who)
  if (name === '') throw new Fault(400, 'Missing service name')
  const tags = query.getAll('tag')
  const value = query.get('passing')
  if (value !== null && !['', '1', 'true', '0', 'false'].includes(value)) {
    throw new Fault(400, 'Invalid value for ?passing')
  }
  const passing = value !== null && value !== '0' && value !== 'false'
  return {
    topic: `service:${name}`,
    question: `health ${passing} ${JSON.stringify(tags)}`,
    read: () => {
      const items = []
      for (const item of catalogue.instances(name)) {
        const node = catalogue.node(item.node)
        if (node === null || !tags.every((tag) => item.tags.includes(tag))) continue
        const checks = catalogue
          .checksOf(item.node)
          .filter((check) => check.serviceId === '' || check.serviceId === item.id)
        if (passing && !checks.every((check) => check.status === 'passing')) continue
        items.push({ Node: nodeBody(node), Service: serviceBody(item), Checks: checks.map(checkBody) })
      }
      return answer(db.changedAt(`service:${name}`), items)
    },
  }
}
