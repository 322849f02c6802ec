// What a registry answers, checked and turned into our types. The registry is another machine: what does not look as it
// should is an error, not a crash later.
import { MeshError } from '../errors.ts'
import type { CheckStatus, Entry, Instance } from './registry.ts'

type Fields = Record<string, unknown>

export function parseServices(body: unknown): Record<string, readonly string[]> {
  return Object.fromEntries(Object.entries(fields(body)).map(([name, tags]) => [name, strings(tags)]))
}

export function parseNodes(body: unknown): { name: string; address: string; meta: Record<string, string> }[] {
  return list(body).map((node) => ({
    name: parseText(node, 'Node'),
    address: parseText(node, 'Address'),
    meta: map(node['Meta']),
  }))
}

export function parseInstances(body: unknown): Instance[] {
  return list(body).map((item) => {
    const node = fields(item['Node'])
    const service = fields(item['Service'])
    const nodeAddress = parseText(node, 'Address')
    const checks = parseChecks(item['Checks'])
    return {
      node: parseText(node, 'Node'),
      nodeAddress,
      id: parseText(service, 'ID'),
      service: parseText(service, 'Service'),
      address: parseText(service, 'Address') || nodeAddress,
      port: integer(service['Port']),
      tags: strings(service['Tags']),
      meta: map(service['Meta']),
      passing: checks.every((check) => check.status === 'passing'),
      checks: checks.map(({ id, status, output }) => ({ id, status, output })),
    }
  })
}

export function parseChecks(
  body: unknown,
): { id: string; serviceId: string; status: CheckStatus; output: string }[] {
  return list(body).map((check) => {
    const status = parseText(check, 'Status')
    return {
      id: parseText(check, 'CheckID'),
      serviceId: parseText(check, 'ServiceID'),
      // `maintenance` and whatever else is not one of ours means: send nothing there.
      status: status === 'passing' || status === 'warning' ? status : 'critical',
      output: parseText(check, 'Output'),
    }
  })
}

/** One entry or several as the package decoded them; nothing where there is none. */
export function parseEntries(body: unknown): Entry[] {
  if (body === undefined || body === null || body === '') return []
  return (Array.isArray(body) ? list(body) : [fields(body)]).map((entry) => ({
    key: parseText(entry, 'Key'),
    value: parseText(entry, 'Value'),
    modifyIndex: String(integer(entry['ModifyIndex'])),
  }))
}

/** A string field; '' where it is absent or null. */
export function parseText(body: unknown, name: string): string {
  const value = fields(body)[name] ?? ''
  return typeof value === 'string' ? value : broken(`${name} is not a string`)
}

function fields(value: unknown): Fields {
  if (value === null || value === undefined) return {}
  return typeof value === 'object' && !Array.isArray(value)
    ? (value as Fields)
    : broken('an object was expected')
}

function list(value: unknown): Fields[] {
  if (value === null || value === undefined) return []
  return Array.isArray(value) ? value.map(fields) : broken('a list was expected')
}

function strings(value: unknown): string[] {
  if (value === null || value === undefined) return []
  if (!Array.isArray(value)) return broken('a list of strings was expected')
  return value.filter((item): item is string => typeof item === 'string')
}

function map(value: unknown): Record<string, string> {
  const entries = Object.entries(fields(value)).filter(
    (pair): pair is [string, string] => typeof pair[1] === 'string',
  )
  return Object.fromEntries(entries)
}

function integer(value: unknown): number {
  return typeof value === 'number' && Number.isSafeInteger(value) ? value : broken('a number was expected')
}

function broken(why: string): never {
  throw new MeshError('MSH0303', `the registry's answer cannot be understood: ${why}`)
}
