// What the catalogue keeps, and how it is read from its rows.
import { integer, json, text } from './database.ts'
import type { Row } from './database.ts'

export interface NodeRecord {
  readonly node: string
  readonly id: string
  readonly address: string
  readonly tagged: Record<string, unknown> | null
  readonly meta: Record<string, string> | null
  readonly created: number
  readonly modified: number
}

export interface ServiceRecord {
  readonly node: string
  readonly id: string
  readonly name: string
  readonly tags: readonly string[]
  readonly address: string
  readonly port: number
  readonly meta: Record<string, string> | null
  readonly weights: { readonly Passing: number; readonly Warning: number }
  readonly override: boolean
  readonly created: number
  readonly modified: number
}

export interface CheckRecord {
  readonly node: string
  readonly id: string
  readonly name: string
  readonly status: string
  readonly notes: string
  readonly output: string
  readonly serviceId: string
  readonly serviceName: string
  readonly serviceTags: readonly string[]
  readonly type: string
  readonly created: number
  readonly modified: number
}

export function nodeRecord(row: Row): NodeRecord {
  return {
    node: text(row, 'node'),
    id: text(row, 'id'),
    address: text(row, 'address'),
    tagged: json(row, 'tagged') as NodeRecord['tagged'],
    meta: json(row, 'meta') as NodeRecord['meta'],
    created: integer(row, 'created'),
    modified: integer(row, 'modified'),
  }
}

export function serviceRecord(row: Row): ServiceRecord {
  return {
    node: text(row, 'node'),
    id: text(row, 'id'),
    name: text(row, 'name'),
    tags: json(row, 'tags') as string[],
    address: text(row, 'address'),
    port: integer(row, 'port'),
    meta: json(row, 'meta') as ServiceRecord['meta'],
    weights: json(row, 'weights') as ServiceRecord['weights'],
    override: integer(row, 'override') === 1,
    created: integer(row, 'created'),
    modified: integer(row, 'modified'),
  }
}

export function checkRecord(row: Row): CheckRecord {
  return {
    node: text(row, 'node'),
    id: text(row, 'id'),
    name: text(row, 'name'),
    status: text(row, 'status'),
    notes: text(row, 'notes'),
    output: text(row, 'output'),
    serviceId: text(row, 'service_id'),
    serviceName: text(row, 'service_name'),
    serviceTags: json(row, 'service_tags') as string[],
    type: text(row, 'type'),
    created: integer(row, 'created'),
    modified: integer(row, 'modified'),
  }
}
