// The hash of a snapshot: over canonical bytes, so that equal content has one hash in every process and release.
import { createHash } from 'node:crypto'
import type { Snapshot } from './types.ts'

/** Texts of objects that never change, so that a snapshot that shares them with another is read once. */
export type Texts = WeakMap<object, string>

/** JSON with sorted keys and no white space. Members that are `undefined` are left out, as JSON.stringify does. */
export function canonical(value: unknown, texts?: Texts): string {
  if (typeof value !== 'object' || value === null) return JSON.stringify(value)
  const known = texts?.get(value)
  if (known !== undefined) return known
  let text = ''
  if (Array.isArray(value)) {
    for (const item of value) text += `${text === '' ? '[' : ','}${canonical(item ?? null, texts)}`
    return text === '' ? '[]' : `${text}]`
  }
  const members = value as Readonly<Record<string, unknown>>
  // In the order of UTF-16 code units.
  for (const key of Object.keys(members).toSorted()) {
    const inner = members[key]
    if (inner === undefined) continue
    text += `${text === '' ? '{' : ','}${JSON.stringify(key)}:${canonical(inner, texts)}`
  }
  return text === '' ? '{}' : `${text}}`
}

/** SHA-256 over the canonical bytes, lowercase hex. */
export function hashOf(value: unknown): string {
  return createHash('sha256').update(canonical(value)).digest('hex')
}

/** The hash that belongs into `snapshot.hash`: over everything else in it. */
export function snapshotHash(snapshot: Omit<Snapshot, 'hash'>, texts?: Texts): string {
  const entries: [string, unknown][] = Object.entries(snapshot)
  const members = entries.filter(([key, value]) => key !== 'hash' && value !== undefined)
  const hash = createHash('sha256')
  let comma = '{'
  // Piece by piece: to put the text of thousands of endpoints together takes longer than to hash it.
  for (const [key, value] of members.toSorted(([a], [b]) => (a < b ? -1 : 1))) {
    hash.update(`${comma}${JSON.stringify(key)}:`)
    comma = ','
    if (!Array.isArray(value) || value.length === 0) {
      hash.update(canonical(value, texts))
      continue
    }
    for (const [at, item] of value.entries())
      hash.update(at === 0 ? '[' : ',').update(canonical(item ?? null, texts))
    hash.update(']')
  }
  return hash.update(comma === '{' ? '{}' : '}').digest('hex')
}
