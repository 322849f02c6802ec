// /v1/catalog: registering nodes, services and checks, and listing them.
import type { Database, Write } from './database.ts'
import { mayRead, mayRegister, mayRegisterNode, mayWriteNode } from './access.ts'
import type { Catalogue } from './catalogue.ts'
import type { CheckRecord, NodeRecord, ServiceRecord } from './records.ts'
import {
  answer,
  integerField,
  isObject,
  mapField,
  objectField,
  ok,
  parseObject,
  stringField,
  stringsField,
} from './request.ts'
import type { Call, Reply, Route } from './request.ts'
import type { Watch } from './waits.ts'
import { Fault } from './fault.ts'

export const datacenter = 'dc1'

/** What one host's token may put into the catalogue: room for 32 services with many instances each. */
const maxHostBytes = 64 * 1024
const maxHostRecords = 512

export function catalogRoutes(db: Database, catalogue: Catalogue): Route[] {
  return [
    { method: 'PUT', path: 'catalog/register', handle: (call) => register(db, catalogue, call) },
    { method: 'PUT', path: 'catalog/deregister', handle: (call) => deregister(db, catalogue, call) },
    { method: 'GET', path: 'catalog/datacenters', handle: ({ who }) => (mayRead(who), ok([datacenter])) },
    {
      method: 'GET',
      path: 'catalog/nodes',
      handle: watch('nodes', () => [db.changedAt('nodes'), catalogue.nodes().map(nodeBody)]),
    },
    {
      method: 'GET',
      path: 'catalog/services',
      handle: watch('services', () => [db.changedAt('services'), catalogue.names()]),
    },
    { method: 'GET', path: 'catalog/service/*', handle: (call) => service(db, catalogue, call) },
    { method: 'GET', path: 'catalog/node/*', handle: (call) => node(db, catalogue, call) },
  ]
}

/** A handler of a read that everybody with a token may do. */
export function watch(topic: string, read: () => [index: number, value: unknown]): Route['handle'] {
  return ({ who }): Watch => {
    mayRead(who)
    return { topic, question: topic, read: () => answer(...read()) }
  }
}

function service(db: Database, catalogue: Catalogue, { rest: name, query, who }: Call): Watch {
  mayRead(who)
  if (name === '') throw new Fault(400, 'Missing service name')
  const tags = query.getAll('tag')
  return {
    topic: `service:${name}`,
    question: `catalog ${JSON.stringify(tags)}`,
    read: () => {
      const items = catalogue.instances(name).filter((item) => tags.every((tag) => item.tags.includes(tag)))
      return answer(
        db.changedAt(`service:${name}`),
        items.flatMap((item) => {
          const host = catalogue.node(item.node)
          return host === null ? [] : [flatBody(host, item)]
        }),
      )
    },
  }
}

function node(db: Database, catalogue: Catalogue, { rest: name, who }: Call): Watch {
  mayRead(who)
  if (name === '') throw new Fault(400, 'Missing node name')
  return {
    topic: `node:${name}`,
    question: 'node',
    read: () => {
      const host = catalogue.node(name)
      const services = catalogue.servicesOf(name).map((item) => [item.id, serviceBody(item)] as const)
      const value = host === null ? null : { Node: nodeBody(host), Services: Object.fromEntries(services) }
      return answer(db.changedAt(`node:${name}`), value)
    },
  }
}

async function register(db: Database, catalogue: Catalogue, { body, who }: Call): Promise<Reply> {
  if (who.kind === 'host' && body.length > maxHostBytes) {
    throw new Fault(413, `a host registers at most ${maxHostBytes} bytes at once`)
  }
  const asked = parseObject(body)
  const name = stringField(asked, 'Node')
  if (name === '') throw new Fault(500, 'Must provide node')
  const address = stringField(asked, 'Address')
  mayRegisterNode(who, name, address)
  const skip = asked['SkipNodeUpdate'] === true
  if (address === '' && !skip) throw new Fault(500, 'Must provide address if SkipNodeUpdate is not set')
  const described = {
    node: name,
    id: stringField(asked, 'ID'),
    address,
    tagged: objectField(asked, 'TaggedAddresses'),
    meta: mapField(asked, 'NodeMeta'),
  }
  const declared = objectField(asked, 'Service')
  const instance = declared === null ? null : parseService(name, declared)
  if (instance !== null) mayRegister(who, instance)
  const single = objectField(asked, 'Check')
  const several = asked['Checks'] ?? []
  if (!Array.isArray(several) || !several.every(isObject)) {
    throw new Fault(400, 'Request decode failed: Checks is not a list of objects')
  }
  const checks = [...(single === null ? [] : [single]), ...several].map((check) => parseCheck(name, check))
  await db.write((write: Write) => {
    if (!skip || catalogue.node(name) === null) catalogue.putNode(write, described)
    if (instance !== null) catalogue.putService(write, instance)
    for (const check of checks) catalogue.putCheck(write, check)
    // Inside the write, which is undone: a host's token fills neither the disk nor every other host's view.
    if (who.kind === 'host' && catalogue.sizeOf(name) > maxHostRecords) {
      throw new Fault(403, `Permission denied: a host has at most ${maxHostRecords} services and checks`)
    }
  })
  return ok(true)
}

async function deregister(db: Database, catalogue: Catalogue, { body, who }: Call): Promise<Reply> {
  const asked = parseObject(body)
  const name = stringField(asked, 'Node')
  if (name === '') throw new Fault(500, 'Must provide node')
  mayWriteNode(who, name)
  const serviceId = stringField(asked, 'ServiceID')
  const checkId = stringField(asked, 'CheckID')
  await db.write((write: Write) => {
    if (serviceId !== '') catalogue.removeService(write, name, serviceId)
    else if (checkId !== '') catalogue.removeCheck(write, name, checkId)
    else catalogue.removeNode(write, name)
  })
  return ok(true)
}

/** A service as the catalogue and the agent are given it. */
export function parseService(
  node: string,
  asked: Record<string, unknown>,
): Omit<ServiceRecord, 'created' | 'modified'> {
  const name = stringField(asked, 'Service')
  if (name === '') throw new Fault(500, 'Must provide service name with ID')
  for (const field of ['Proxy', 'Connect', 'Kind', 'TaggedAddresses']) {
    if (asked[field] !== undefined && asked[field] !== null && asked[field] !== '') {
      throw new Fault(400, `${field} of a service is not supported by the embedded registry`)
    }
  }
  const weights = objectField(asked, 'Weights')
  const port = integerField(asked, 'Port')
  if (port > 65535) throw new Fault(400, 'Request decode failed: Port is not a port')
  return {
    node,
    id: stringField(asked, 'ID') || name,
    name,
    tags: stringsField(asked, 'Tags') ?? [],
    address: stringField(asked, 'Address'),
    port,
    meta: mapField(asked, 'Meta'),
    weights: {
      Passing: weights === null ? 1 : integerField(weights, 'Passing'),
      Warning: weights === null ? 1 : integerField(weights, 'Warning'),
    },
    override: asked['EnableTagOverride'] === true,
  }
}

function parseCheck(node: string, asked: Record<string, unknown>): Parameters<Catalogue['putCheck']>[1] {
  const name = stringField(asked, 'Name')
  const id = stringField(asked, 'CheckID') || name
  if (id === '') throw new Fault(400, 'Must provide a check id or name')
  const of = stringField(asked, 'Node')
  if (of !== '' && of !== node) throw new Fault(400, 'A check must belong to the node that is registered')
  return {
    node,
    id,
    name,
    status: stringField(asked, 'Status') || 'critical',
    notes: stringField(asked, 'Notes'),
    output: stringField(asked, 'Output'),
    serviceId: stringField(asked, 'ServiceID'),
    type: '',
  }
}

export function nodeBody(node: NodeRecord): Record<string, unknown> {
  return {
    ID: node.id,
    Node: node.node,
    Address: node.address,
    Datacenter: datacenter,
    TaggedAddresses: node.tagged,
    Meta: node.meta,
    CreateIndex: node.created,
    ModifyIndex: node.modified,
  }
}

const proxyBody = { MeshGateway: {}, Expose: {} }

export function serviceBody(service: ServiceRecord): Record<string, unknown> {
  return {
    ID: service.id,
    Service: service.name,
    Tags: service.tags,
    Address: service.address,
    Meta: service.meta,
    Port: service.port,
    Weights: service.weights,
    EnableTagOverride: service.override,
    Proxy: proxyBody,
    Connect: {},
    CreateIndex: service.created,
    ModifyIndex: service.modified,
  }
}

export function checkBody(check: CheckRecord): Record<string, unknown> {
  return {
    Node: check.node,
    CheckID: check.id,
    Name: check.name,
    Status: check.status,
    Notes: check.notes,
    Output: check.output,
    ServiceID: check.serviceId,
    ServiceName: check.serviceName,
    ServiceTags: check.serviceTags,
    Type: check.type,
    Definition: {},
    CreateIndex: check.created,
    ModifyIndex: check.modified,
  }
}

/** Node and service in one object, as /v1/catalog/service has it. */
function flatBody(node: NodeRecord, service: ServiceRecord): Record<string, unknown> {
  return {
    ID: node.id,
    Node: node.node,
    Address: node.address,
    Datacenter: datacenter,
    TaggedAddresses: node.tagged,
    NodeMeta: node.meta,
    ServiceKind: '',
    ServiceID: service.id,
    ServiceName: service.name,
    ServiceTags: service.tags,
    ServiceAddress: service.address,
    ServiceWeights: service.weights,
    ServiceMeta: service.meta,
    ServicePort: service.port,
    ServiceEnableTagOverride: service.override,
    ServiceProxy: proxyBody,
    ServiceConnect: {},
    CreateIndex: service.created,
    ModifyIndex: service.modified,
  }
}
