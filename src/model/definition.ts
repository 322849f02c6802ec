// One service definition (Consul's fields plus ours, as an object) → ServiceDeclaration with every default filled in.
// https://developer.hashicorp.com/consul/docs/services/configuration/services-configuration-reference
import { parseDuration } from './duration.ts'
import { Fields } from './fields.ts'
import { defaultNamespace, isLabelValue, nameFault } from './name.ts'
import { isRecord } from './problem.ts'
import { readProtocol } from './protocol.ts'
import { readProxyProtocol } from './proxyprotocol.ts'
import type { CheckDefinition, ServiceDeclaration } from './service.ts'

// Consul's own fields that mean something we do not do yet.
const consulService = [
  'address', 'connect', 'enable_tag_override', 'enableTagOverride', 'kind', 'ports', 'proxy', 'socket_path',
  'tagged_addresses', 'token', 'weights',
] // prettier-ignore
const consulCheck = [
  'alias_node', 'alias_service', 'body', 'deregister_critical_service_after', 'disable_redirects', 'docker_container_id',
  'failures_before_critical', 'failures_before_warning', 'grpc', 'grpc_use_tls', 'h2ping', 'h2ping_use_tls', 'notes',
  'output_max_size', 'service_id', 'shell', 'status', 'success_before_passing', 'tls_server_name', 'tls_skip_verify',
  'ttl', 'udp', 'script', 'id',
] // prettier-ignore

const accounts = /^[a-z_][a-z0-9_-]{0,31}\$?$/
// No `@` templates without an instance and no slashes: it becomes a cgroup path and a file name.
const unitName = /^[A-Za-z0-9:_.\\-]+(?:@[A-Za-z0-9:_.\\-]+)?\.(?:service|scope|slice)$/

export interface Defaults {
  readonly namespace: string
}

/** Null when it has problems, which went to the fields' sink. */
export function define(fields: Fields, defaults: Defaults): ServiceDeclaration | null {
  const before = fields.sink.problems.length
  const written = fields.text('name', 'Name') ?? ''
  const [name = '', dotted] = written.split('.', 2)
  const namespace = fields.text('namespace', 'Namespace') ?? dotted ?? defaults.namespace
  if (written === '') fields.fault('name', 'is missing')
  else checkName(fields, 'name', name)
  if (written.split('.').length > 2) fields.fault('name', 'must be `service` or `service.namespace`')
  if (dotted !== undefined && namespace !== dotted)
    fields.fault('namespace', `contradicts the name "${written}"`)
  checkName(fields, 'namespace', namespace)

  const unit = readUnit(fields)
  const user = readUser(fields)
  const port = readPort(fields, unit !== null || user !== null)
  if (port === 0) refuseServing(fields)
  const bind = fields.text('bind') ?? null
  if (unit !== null && user !== null) {
    fields.fault(
      'user',
      'unit and user exclude each other',
      'keep the one by which the kernel knows the caller',
    )
  }
  const meta = readMeta(fields)
  const protocol = readProtocol(fields)
  const mtls = fields.choice('mtls', ['permissive', 'strict']) ?? 'permissive'
  const proxyProtocol = readProxyProtocol(fields, protocol, mtls)
  const declaration: ServiceDeclaration = {
    name,
    namespace,
    id: fields.text('id', 'ID') ?? (namespace === defaultNamespace ? name : `${name}.${namespace}`),
    port: port ?? 0,
    servicePort: fields.port('servicePort', 'service_port') ?? port ?? 0,
    tags: readTags(fields),
    meta,
    checks: readChecks(fields, port ?? 0, bind),
    protocol,
    unit,
    user,
    locality: readLocality(fields),
    mtls,
    ...(proxyProtocol === undefined ? {} : { proxyProtocol }),
    onFailure: fields.choice('onFailure', ['open', 'closed'], 'on_failure') ?? 'open',
    bind,
  }
  if (!/^[A-Za-z0-9._:-]{1,128}$/.test(declaration.id))
    fields.fault('id', 'must be letters, digits, dots, dashes')
  if (bind !== null && !/^[0-9A-Fa-f.:]+$/.test(bind)) fields.fault('bind', 'must be an IP address')
  fields.close(consulService)
  return fields.sink.problems.length === before ? declaration : null
}

function checkName(fields: Fields, field: string, text: string): void {
  const fault = nameFault(text)
  if (fault !== null) fields.fault(field, `"${text}" ${fault}`)
}

/** 0: it only calls, which makes sense where somebody speaks as it. Undefined: a problem was told. */
function readPort(fields: Fields, calls: boolean): number | undefined {
  const written = fields.take('port', 'Port')
  // Consul's own default is 0.
  if (calls && (written === undefined || written === 0 || written === '0')) return 0
  if (written === undefined) {
    fields.fault('port', 'is missing', 'say where it listens, port=8080, or who only calls as it, user=NAME')
  }
  return fields.port('port', 'Port')
}

// Each says how connections to the service are taken.
const serving: readonly (readonly [name: string, ...aliases: string[]])[] = [
  ['bind'],
  ['check', 'Check'],
  ['checks', 'Checks'],
  ['mtls'],
  ['onFailure', 'on_failure'],
  ['protocol'],
  ['proxyProtocol', 'proxy_protocol'],
  ['servicePort', 'service_port'],
]

function refuseServing(fields: Fields): void {
  for (const names of serving) {
    const value = fields.take(...names)
    if (value === undefined || (Array.isArray(value) && value.length === 0)) continue
    const hint = 'give it a port, or leave this out'
    fields.fault(names[0], 'means nothing without a port: the service only calls', hint)
  }
}

function readUnit(fields: Fields): string | null {
  const written = fields.text('unit')
  if (written === undefined) return null
  const unit = /\.(service|scope|slice)$/.test(written) ? written : `${written}.service`
  if (!unitName.test(unit)) fields.fault('unit', `"${written}" is no systemd unit name`)
  return unit
}

function readUser(fields: Fields): string | null {
  const written = fields.text('user')
  if (written === undefined) return null
  if (!accounts.test(written)) fields.fault('user', `"${written}" is no user name`)
  return written
}

function readTags(fields: Fields): string[] {
  const tags: string[] = []
  for (const tag of fields.list('tags', 'Tags')) {
    if (typeof tag === 'string' && tag !== '') tags.push(tag)
    else fields.fault('tags', 'every tag must be a non-empty string')
  }
  return tags
}

// Consul's limits: 64 pairs, keys of 128 characters, values of 512.
function readMeta(fields: Fields): Record<string, string> {
  const meta = fields.strings('meta', 'Meta')
  const version = fields.text('version')
  if (version !== undefined) {
    if (meta['version'] !== undefined && meta['version'] !== version) {
      fields.fault('version', `contradicts meta.version "${meta['version']}"`)
    }
    meta['version'] = version
  }
  if (Object.keys(meta).length > 56)
    fields.fault('meta', 'holds more than 56 pairs (Consul takes 64, 8 are ours)')
  for (const [key, value] of Object.entries(meta)) {
    if (key.startsWith('meshctl-')) fields.fault('meta', `${key}: names beginning with meshctl- are ours`)
    else if (!/^[A-Za-z0-9_-]{1,128}$/.test(key))
      fields.fault('meta', `"${key}" must be letters, digits, - and _`)
    else if (value.length > 512) fields.fault('meta', `${key}: is longer than 512 characters`)
  }
  if (meta['version'] !== undefined && !isLabelValue(meta['version'])) {
    fields.fault(
      'version',
      `"${meta['version']}" must be letters, digits, dots, dashes and underscores, at most 63`,
    )
  }
  return meta
}

// Istio writes `region/zone`, Consul `{region, zone}`.
function readLocality(fields: Fields): string {
  const value = fields.take('locality')
  if (isRecord(value)) {
    const region = value['region'] ?? value['Region'] ?? ''
    const zone = value['zone'] ?? value['Zone'] ?? ''
    if (typeof region === 'string' && typeof zone === 'string')
      return zone === '' ? region : `${region}/${zone}`
  }
  if (value === undefined) return ''
  if (typeof value === 'string' && /^[A-Za-z0-9._-]+(?:\/[A-Za-z0-9._-]+){0,2}$/.test(value)) return value
  fields.fault('locality', 'must be region/zone/subzone or {region, zone}')
  return ''
}

function readChecks(fields: Fields, port: number, bind: string | null): CheckDefinition[] {
  const single = fields.take('check', 'Check')
  const all = [...(single === undefined ? [] : [single]), ...fields.list('checks', 'Checks')]
  const found: CheckDefinition[] = []
  for (const [index, value] of all.entries()) {
    const path = [...fields.path, ...(single !== undefined && index === 0 ? ['check'] : ['checks', index])]
    const check = Fields.of(value, path, fields.sink)
    const read = check === undefined ? null : readCheck(check, port, bind ?? '127.0.0.1')
    if (read !== null) found.push(read)
  }
  return found
}

function readCheck(fields: Fields, port: number, address: string): CheckDefinition | null {
  const name = fields.text('name', 'Name')
  const interval = readTime(fields, 'interval', 'Interval')
  const timeout = readTime(fields, 'timeout', 'Timeout')
  const base = {
    ...(name === undefined ? {} : { name }),
    ...(interval === undefined ? {} : { interval }),
    ...(timeout === undefined ? {} : { timeout }),
  }
  const http = fields.text('http', 'HTTP')
  const method = fields.text('method', 'Method')
  const header = readHeader(fields)
  const tcp = fields.text('tcp', 'TCP')
  const unit = fields.text('os_service')
  const args = fields.list('args', 'Args', 'ScriptArgs')
  fields.close(consulCheck)

  const given = [http, tcp, unit, args.length > 0 ? 'args' : undefined].filter(
    (kind) => kind !== undefined,
  ).length
  if (given !== 1) {
    fields.fault(null, `needs exactly one of http, tcp, os_service, args; has ${given}`)
    return null
  }
  const host = address.includes(':') ? `[${address}]` : address
  if (http !== undefined) {
    const url = http.startsWith('/') ? `http://${host}:${port}${http}` : http
    if (!URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol)) {
      fields.fault('http', `"${http}" must be a path (/healthz) or an http(s) URL`)
      return null
    }
    return {
      ...base,
      http: url,
      ...(method === undefined ? {} : { method: method.toUpperCase() }),
      ...header,
    }
  }
  if (tcp !== undefined) {
    const target = tcp === '' ? `${host}:${port}` : /^\d+$/.test(tcp) ? `${host}:${tcp}` : tcp
    if (!/:\d{1,5}$/.test(target)) fields.fault('tcp', `"${tcp}" must be host:port or a port`)
    return { ...base, tcp: target }
  }
  if (unit !== undefined) return { ...base, os_service: unit.includes('.') ? unit : `${unit}.service` }
  const words = args.filter((word) => typeof word === 'string')
  if (words.length !== args.length) fields.fault('args', 'every argument must be a string')
  if (words[0]?.startsWith('/') !== true)
    fields.fault('args', 'must begin with the absolute path of the program')
  return { ...base, args: words }
}

function readTime(fields: Fields, name: string, alias: string): string | undefined {
  const text = fields.text(name, alias)
  if (text === undefined) return undefined
  const ms = parseDuration(text)
  if (ms === null || ms < 1) fields.fault(name, `"${text}" is no duration`, 'write 5s or 500ms')
  return text
}

function readHeader(fields: Fields): { header?: Record<string, readonly string[]> } {
  const value = fields.take('header', 'Header')
  if (value === undefined) return {}
  if (!isRecord(value)) {
    fields.fault('header', 'must be a map of lists')
    return {}
  }
  const header: Record<string, readonly string[]> = {}
  for (const [key, list] of Object.entries(value)) {
    const words = Array.isArray(list) ? list.filter((word) => typeof word === 'string') : []
    if (!Array.isArray(list) || words.length !== list.length)
      fields.fault('header', `${key}: must be a list of strings`)
    else if (!/^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(key) || words.some((word) => /[\r\n\0]/.test(word))) {
      fields.fault('header', `${key}: is no header`)
    } else header[key] = words
  }
  return { header }
}
