// The hash of a snapshot: over canonical bytes, so that equal content has one hash in every process and release.
import { createHash } from 'node:crypto'
import type { Snapshot } from './types.ts'

/** JSON with sorted keys and no white space. Members that are `undefined` are left out, as JSON.stringify does. */
export function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map((item) => canonical(item ?? null)).join(',')}]`
  if (typeof value === 'object' && value !== null) {
    const members = Object.entries(value)
      .filter(([, inner]) => inner !== undefined)
      .toSorted(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))
      .map(([key, inner]) => `${JSON.stringify(key)}:${canonical(inner)}`)
    return `{${members.join(',')}}`
  }
  return JSON.stringify(value)
}

/** SHA-256 over the canonical bytes, lowercase hex. */
export function hashOf(value: unknown): string {
  return createHash('sha256').update(canonical(value)).digest('hex')
}

/** The hash that belongs into `snapshot.hash`: over everything else in it. */
export function snapshotHash(snapshot: Omit<Snapshot, 'hash'>): string {
  return hashOf({ ...snapshot, hash: undefined })
}
