// The config store: the mesh's resources as JSON objects under one key each, written with check-and-set.
import { MeshError } from '../errors.ts'
import { maxOperations } from './client.ts'
import { keys } from './registry.ts'
import type { Entry, Indexed, Operation, Query, Registry } from './registry.ts'

/** What every object has; what is inside `spec` is checked by the model. */
export interface ConfigObject {
  readonly apiVersion: string
  readonly kind: string
  readonly metadata: { readonly name: string; readonly namespace: string }
  readonly spec: unknown
}

export interface Stored {
  readonly object: ConfigObject
  /** What a later `put` or `remove` gives back to say what it saw. */
  readonly index: string
}

/** Something under the config prefix that is no object. */
export interface StoredProblem {
  readonly key: string
  readonly message: string
}

export interface Listing {
  readonly objects: readonly Stored[]
  readonly problems: readonly StoredProblem[]
}

export interface ObjectName {
  readonly kind: string
  readonly namespace: string
  readonly name: string
}

/** `index` '0': it must not exist yet; null: whatever is there is overwritten. */
export type Change =
  | { readonly put: ConfigObject; readonly index: string | null }
  | { readonly remove: ObjectName; readonly index: string | null }

type Store = Pick<Registry, 'get' | 'list' | 'transact'>

export async function getObject(registry: Store, mesh: string, name: ObjectName): Promise<Stored | null> {
  const { value } = await registry.get(keyOf(mesh, name))
  if (value === null) return null
  const read = parse(value)
  if ('object' in read) return read
  throw new MeshError('MSH0303', `${value.key} in the registry cannot be read: ${read.message}`, {
    hint: 'write the object anew with `meshctl apply`',
  })
}

/** Every object, or those of one kind; in the order of their keys. */
export async function listObjects(
  registry: Store,
  mesh: string,
  options: { readonly kind?: string; readonly query?: Query } = {},
): Promise<Indexed<Listing>> {
  const prefix =
    options.kind === undefined ? keys.config(mesh) : `${keys.config(mesh)}${segment(options.kind)}/`
  const { index, value } = await registry.list(prefix, options.query)
  return { index, value: readListing(value) }
}

/** Entries under keys.config(mesh) as objects; for those who watch the prefix themselves. */
export function readListing(entries: readonly Entry[]): Listing {
  const objects: Stored[] = []
  const problems: StoredProblem[] = []
  for (const entry of entries) {
    const read = parse(entry)
    if ('object' in read) objects.push(read)
    else problems.push({ key: entry.key, message: read.message })
  }
  return { objects, problems }
}

export function putObject(
  registry: Store,
  mesh: string,
  object: ConfigObject,
  index: string | null,
): Promise<void> {
  return changeObjects(registry, mesh, [{ put: object, index }])
}

export function removeObject(
  registry: Store,
  mesh: string,
  name: ObjectName,
  index: string | null,
): Promise<void> {
  return changeObjects(registry, mesh, [{ remove: name, index }])
}

/** All changes in one transaction, or none. Throws MSH0304 where somebody else changed one of them since. */
export async function changeObjects(
  registry: Store,
  mesh: string,
  changes: readonly Change[],
): Promise<void> {
  if (changes.length > maxOperations) {
    throw new MeshError(
      'MSH0303',
      `${changes.length} objects at once: the registry takes at most ${maxOperations}`,
      {
        hint: 'apply fewer files at a time',
      },
    )
  }
  const operations = changes.map((change) => operationOf(mesh, change))
  const twice = operations.find(({ key }, at) => operations.findIndex((other) => other.key === key) !== at)
  if (twice !== undefined) throw new MeshError('MSH0303', `${twice.key} is changed twice in one transaction`)
  if (await registry.transact(operations)) return
  throw new MeshError('MSH0304', 'an object was changed by somebody else since it was read', {
    hint: 'read it again and repeat the command',
    details: operations.map(({ key }) => key),
  })
}

function operationOf(mesh: string, change: Change): Operation {
  const { index } = change
  if ('put' in change) {
    const { kind, metadata } = change.put
    const key = keyOf(mesh, { kind, namespace: metadata.namespace, name: metadata.name })
    const value = JSON.stringify(change.put)
    return index === null ? { verb: 'set', key, value } : { verb: 'cas', key, value, index }
  }
  const key = keyOf(mesh, change.remove)
  return index === null ? { verb: 'delete', key } : { verb: 'delete-cas', key, index }
}

function keyOf(mesh: string, { kind, namespace, name }: ObjectName): string {
  return keys.resource(mesh, segment(kind), segment(namespace), segment(name))
}

/** Parts of a key hold no separator, nothing that a path would be shortened by, and no surprises for other tools. */
function segment(text: string): string {
  if (/^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?$/.test(text)) return text
  throw new MeshError('MSH0201', `${JSON.stringify(text.slice(0, 80))} is no name of an object`, {
    hint: 'use letters, digits, dots and dashes',
  })
}

function parse(entry: Entry): Stored | { readonly message: string } {
  let read: unknown
  try {
    read = JSON.parse(entry.value)
  } catch {
    return { message: 'not JSON' }
  }
  if (!isObject(read)) return { message: 'not an object' }
  const { apiVersion, kind, metadata, spec } = read
  if (typeof apiVersion !== 'string' || typeof kind !== 'string') return { message: 'no apiVersion or kind' }
  if (!isObject(metadata)) return { message: 'no metadata' }
  const { name, namespace } = metadata
  if (typeof name !== 'string' || typeof namespace !== 'string') return { message: 'no name or namespace' }
  // An object that says another name than its key could hide another one.
  if (!entry.key.endsWith(`/config/${kind}/${namespace}/${name}`))
    return { message: 'the key names another object' }
  return {
    object: { apiVersion, kind, metadata: { ...metadata, name, namespace }, spec },
    index: entry.modifyIndex,
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
