// What hosts last said of themselves (HostReport). The registry's bytes are checked: a host writes its own key.
import { clean } from './table.ts'
import { isRecord } from '../model/problem.ts'
import { keys, type HostReport, type MachineFacts, type Registry } from '../registry/registry.ts'

/** Sorted by host. What is no report is left out. */
export async function readReports(registry: Registry, mesh: string): Promise<HostReport[]> {
  const { value } = await registry.list(keys.reports(mesh))
  return value
    .flatMap((entry) => parse(entry.value, entry.key.slice(keys.reports(mesh).length)) ?? [])
    .toSorted((a, b) => (a.host < b.host ? -1 : 1))
}

function parse(text: string, host: string): HostReport | null {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return null
  }
  if (!isRecord(value) || value['schema'] !== 1) return null
  const word = (key: string): string => (typeof value[key] === 'string' ? clean(value[key]) : '')
  const services = Array.isArray(value['services']) ? value['services'].filter(isRecord) : []
  const problems = Array.isArray(value['problems'])
    ? value['problems'].filter((one) => typeof one === 'string').map(clean)
    : []
  const notAfter = value['certificateNotAfter']
  return {
    schema: 1,
    // The key says whose it is; a host can write no other.
    host,
    address: word('address'),
    version: word('version'),
    bootId: word('bootId'),
    snapshot: word('snapshot'),
    proxy: choice(word('proxy'), ['ok', 'down', 'rejected'], 'down'),
    capture: choice(word('capture'), ['ok', 'drifted', 'off', 'failed'], 'failed'),
    dns: choice(word('dns'), ['ok', 'off', 'failed'], 'failed'),
    services: services.map((service) => ({
      name: clean(String(service['name'])),
      namespace: clean(String(service['namespace'])),
      status: choice(String(service['status']), ['passing', 'warning', 'critical'], 'critical'),
    })),
    certificateNotAfter: typeof notAfter === 'number' ? notAfter : 0,
    problems,
    machine: machineOf(value['machine']),
    at: word('at'),
  }
}

function machineOf(value: unknown): MachineFacts | null {
  if (!isRecord(value)) return null
  const word = (key: string): string => (typeof value[key] === 'string' ? clean(value[key]) : '')
  const number = (key: string): number => (typeof value[key] === 'number' ? value[key] : 0)
  return {
    os: word('os'),
    kernel: word('kernel'),
    arch: word('arch'),
    cores: number('cores'),
    memoryBytes: number('memoryBytes'),
    virtual: word('virtual'),
  }
}

function choice<T extends string>(value: string, choices: readonly T[], otherwise: T): T {
  return choices.find((one) => one === value) ?? otherwise
}
