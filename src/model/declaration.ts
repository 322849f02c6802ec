// What a host declares: services from `--service` flags and from files, checked together.
//
//   --service web,port=8080,protocol=http,version=v1,unit=web.service,check=http:/healthz
//   --service shop,user=shop        without a port: it only calls
//   --services-file web.yaml        service: {name: web, port: 8080, …}   or   services: [ … ]
import { maxIdentities, ports } from '../paths.ts'
import { define, type Defaults } from './definition.ts'
import { Fields, type Sink } from './fields.ts'
import { didYouMean } from './near.ts'
import type { Problem } from './problem.ts'
import { isRecord } from './problem.ts'
import { listens, type ServiceDeclaration } from './service.ts'
import { parseText } from './text.ts'

export interface Declared {
  /** Those without problems of their own. */
  readonly services: ServiceDeclaration[]
  readonly problems: Problem[]
}

export interface DeclarationSource {
  readonly flags?: readonly string[]
  readonly files?: readonly { readonly source: string; readonly text: string }[]
  readonly namespace?: string
}

/** Everything the user said about a host's services. All problems at once. */
export function declareServices(said: DeclarationSource): Declared {
  const defaults: Defaults = { namespace: said.namespace ?? 'default' }
  const services: ServiceDeclaration[] = []
  const problems: Problem[] = []
  for (const flag of said.flags ?? []) {
    const one = readFlag(flag, defaults)
    services.push(...one.services)
    problems.push(...one.problems)
  }
  for (const file of said.files ?? []) {
    const many = readFile(file.text, file.source, defaults)
    services.push(...many.services)
    problems.push(...many.problems)
  }
  problems.push(...checkTogether(services))
  return { services, problems }
}

const flagKeys: Readonly<Record<string, string>> = {
  bind: 'bind',
  id: 'id',
  locality: 'locality',
  mtls: 'mtls',
  namespace: 'namespace',
  'on-failure': 'onFailure',
  onFailure: 'onFailure',
  port: 'port',
  protocol: 'protocol',
  'proxy-protocol': 'proxyProtocol',
  proxyProtocol: 'proxyProtocol',
  'service-port': 'servicePort',
  servicePort: 'servicePort',
  unit: 'unit',
  user: 'user',
  version: 'version',
}
const listKeys = ['check', 'interval', 'tag', 'timeout', 'meta.KEY']

function readFlag(flag: string, defaults: Defaults): Declared {
  const problems: Problem[] = []
  const source = `--service ${flag}`
  const to: Sink = { problems, source: () => source }
  const fault = (path: string, message: string, hint?: string): void => {
    problems.push({ level: 'error', source, path, message, hint })
  }
  const [name = '', ...pairs] = flag.split(',')
  const object: Record<string, unknown> = { name }
  const meta: Record<string, string> = {}
  const tags: string[] = []
  const checks: Record<string, unknown>[] = []
  const times: Record<string, string> = {}
  if (name.includes('=')) fault('name', 'the name comes first', '--service web,port=8080')
  for (const pair of pairs) {
    const cut = pair.indexOf('=')
    const key = cut < 0 ? pair : pair.slice(0, cut)
    const value = pair.slice(cut + 1)
    if (cut < 0) fault(pair, 'must be key=value')
    else if (key === 'tag' || key === 'tags') tags.push(...value.split('+').filter((tag) => tag !== ''))
    else if (key === 'check') {
      const check = readFlagCheck(value)
      if (check === null)
        fault('check', `"${value}" must be http:/path, tcp, tcp:PORT, unit:NAME or script:/path`)
      else checks.push(check)
    } else if (key === 'interval' || key === 'timeout') times[key] = value
    else if (key.startsWith('meta.')) meta[key.slice(5)] = value
    else if (flagKeys[key] === undefined) {
      fault(key, 'unknown key', didYouMean(key, [...Object.keys(flagKeys), ...listKeys]) ?? keysHint)
    } else if (object[flagKeys[key]] !== undefined) fault(key, 'is given twice')
    else object[flagKeys[key]] = value
  }
  if (Object.keys(times).length > 0 && checks.length === 0)
    fault('interval', 'belongs to a check', 'add check=…')
  Object.assign(object, { meta, tags, checks: checks.map((check) => ({ ...check, ...times })) })
  const declaration = define(new Fields(object, [], to), defaults)
  return { services: declaration === null || problems.length > 0 ? [] : [declaration], problems }
}

const keysHint = `keys: ${[...new Set(Object.values(flagKeys)), ...listKeys].join(', ')}`

function readFlagCheck(text: string): Record<string, unknown> | null {
  const cut = text.indexOf(':')
  const kind = cut < 0 ? text : text.slice(0, cut)
  const rest = cut < 0 ? '' : text.slice(cut + 1)
  if (kind === 'http' && rest.startsWith('//')) return { http: text }
  if (kind === 'https' && rest.startsWith('//')) return { http: text }
  if (kind === 'http') return { http: rest === '' ? '/' : rest }
  if (kind === 'tcp') return { tcp: rest }
  if (kind === 'unit' && rest !== '') return { os_service: rest }
  if (kind === 'script' && rest !== '') return { args: rest.split(' ') }
  return null
}

function readFile(text: string, source: string, defaults: Defaults): Declared {
  const { documents, problems } = parseText(text, source)
  const services: ServiceDeclaration[] = []
  if (documents.length === 0 && problems.length === 0) {
    problems.push({
      level: 'error',
      source,
      path: '',
      message: 'holds no service',
      hint: 'write service: or services:',
    })
  }
  for (const document of documents) {
    const to: Sink = { problems, source: (path) => `${source}:${document.line(path)}` }
    const fields = Fields.of(document.value, [], to)
    if (fields === undefined) continue
    const single = fields.take('service')
    const many = fields.take('services')
    const all: { value: unknown; path: (string | number)[] }[] = []
    if (single !== undefined) all.push({ value: single, path: ['service'] })
    if (Array.isArray(many)) {
      for (const [index, value] of many.entries()) all.push({ value, path: ['services', index] })
    } else if (isRecord(many)) all.push({ value: many, path: ['services'] })
    if (single === undefined && many === undefined) {
      fields.fault(null, 'holds no service', 'put the definition under service: or services:')
    }
    fields.close([])
    for (const { value, path } of all) {
      const entry = Fields.of(value, path, to)
      const declaration = entry === undefined ? null : define(entry, defaults)
      if (declaration !== null) services.push(declaration)
    }
  }
  return { services, problems }
}

// The kernel finds a service by its port (inbound) and by its unit or user (outbound): each must mean one service.
function checkTogether(services: readonly ServiceDeclaration[]): Problem[] {
  const problems: Problem[] = []
  const fault = (service: ServiceDeclaration, path: string, message: string, hint?: string): void => {
    problems.push({
      level: 'error',
      source: `service ${service.name}.${service.namespace}`,
      path,
      message,
      hint,
    })
  }
  const own = new Set<number>(Object.values(ports))
  const ids = new Map<string, ServiceDeclaration>()
  const listening = new Map<number, ServiceDeclaration>()
  const callers = new Map<string, ServiceDeclaration>()
  const served = new Map<string, ServiceDeclaration>()
  const identities = new Set<string>()
  for (const service of services) {
    const same = ids.get(service.id)
    if (same !== undefined)
      fault(service, 'id', `"${service.id}" is declared twice`, 'give the second one id=…')
    ids.set(service.id, service)
    const neighbour = listening.get(service.port)
    if (listens(service) && neighbour !== undefined)
      fault(service, 'port', `${service.port} is taken by ${neighbour.name}.${neighbour.namespace}`)
    listening.set(service.port, service)
    if (
      own.has(service.port) ||
      (service.port > ports.identity && service.port <= ports.identity + maxIdentities)
    ) {
      fault(service, 'port', `${service.port} is one of meshctl's own ports`)
    }
    const identity = `${service.name}.${service.namespace}`
    identities.add(identity)
    // One link port and one server name stand for one instance.
    const called = `${identity} ${service.servicePort}`
    const twin = served.get(called)
    if (listens(service) && twin !== undefined)
      fault(
        service,
        'servicePort',
        `callers of ${identity} on port ${service.servicePort} would mean port ${twin.port} as well`,
        'one instance of a service port on a host; give the other a service-port of its own',
      )
    served.set(called, service)
    for (const [kind, value] of [
      ['unit', service.unit],
      ['user', service.user],
    ] as const) {
      if (value === null) continue
      const other = callers.get(`${kind} ${value}`)
      if (other !== undefined && `${other.name}.${other.namespace}` !== identity) {
        fault(
          service,
          kind,
          `${value} already speaks as ${other.name}.${other.namespace}`,
          'one caller has one identity',
        )
      }
      callers.set(`${kind} ${value}`, service)
    }
  }
  if (identities.size > maxIdentities) {
    problems.push({
      level: 'error',
      source: '',
      path: 'services',
      message: `${identities.size} services; a host may have ${maxIdentities}`,
    })
  }
  return problems
}
