// The last step of making a snapshot: its parts are frozen, and the hash is taken. What is as it was in the snapshot before is
// not made, frozen or read again: one endpoint of thousands changes one cluster.
import { equal } from './equal.ts'
import { deepFreeze } from './freeze.ts'
import { canonical, snapshotHash, type Texts } from './hash.ts'
import type { Snapshot } from './types.ts'

/** Of the clusters and services that came from here: nobody can change those. */
const texts: Texts = new WeakMap()

/** Services and clusters that equal those of `before` are the same objects. The content itself is left alone. */
export function settle(content: Omit<Snapshot, 'hash'>, before: Snapshot | null): Snapshot {
  const { clusters, outbound, ...rest } = content
  const settled: Omit<Snapshot, 'hash'> = {
    ...deepFreeze(structuredClone(rest)),
    outbound: shared(outbound, before?.outbound ?? [], ({ fqdn }) => fqdn),
    clusters: shared(clusters, before?.clusters ?? [], ({ name }) => name),
  }
  return deepFreeze<Snapshot>({ ...settled, hash: snapshotHash(settled, texts) })
}

function shared<T extends object>(
  items: readonly T[],
  before: readonly T[],
  keyOf: (item: T) => string,
): readonly T[] {
  const known = new Map(before.map((item) => [keyOf(item), item]))
  const result = items.map((item) => {
    const was = known.get(keyOf(item))
    if (was !== undefined && equal(was, item)) return was
    const settled = deepFreeze(structuredClone(item))
    texts.set(settled, canonical(settled))
    return settled
  })
  return result.length === before.length && result.every((item, at) => item === before[at]) ? before : result
}
