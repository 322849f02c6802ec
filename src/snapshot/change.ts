// What turns one snapshot into the next. One endpoint of thousands that moves is a change of a few hundred bytes, and what
// did not change is the same object before and after: whoever uses the snapshot sees at a glance what is new.
import { equal } from './equal.ts'
import type { OutboundService, Snapshot, WeightedCluster } from './types.ts'

/** Of one object. JSON; everything that is not named stays. */
export interface Change {
  /** Members with a new value. */
  readonly set?: Readonly<Record<string, unknown>>
  /** Members that are gone. */
  readonly drop?: readonly string[]
  /** Lists whose items have keys (see `lists` below), by member: the steps that make the new list of the old one. */
  readonly lists?: Readonly<Record<string, readonly Step[]>>
}

/** The new list is what its steps give, one after the other; `from` and `at` are places in the old one. */
export type Step =
  | { readonly from: number; readonly count: number }
  | { readonly at: number; readonly change: Change }
  | { readonly add: unknown }

type Item = Readonly<Record<string, unknown>>

/** How the items of a list are told apart, and which lists are inside them. */
interface List {
  readonly key: (item: Item) => string
  readonly lists: Lists
}
type Lists = Readonly<Record<string, List>>

const named = (member: string, lists: Lists = {}): List => ({ key: (item) => String(item[member]), lists })
const plain: List = { key: String, lists: {} }
const endpoints: List = { key: ({ address, port }) => `${String(address)} ${String(port)}`, lists: {} }
const lists: Lists = {
  clusters: named('name', { endpoints }),
  outbound: named('fqdn', { ports: named('port', { instances: plain, routes: named('name') }) }),
}

/** Null: they are equal. */
export function diff(old: Snapshot, next: Snapshot): Change | null {
  const clusters = diffList(old.clusters, next.clusters, lists['clusters']!)
  // Routes name their clusters by place: those that only moved along with their clusters did not change.
  const moved = moveAlong(old, clusters)
  const rest = diffObject({ ...moved, clusters: null }, { ...next, clusters: null }, lists)
  if (clusters === null) return rest
  return { ...rest, lists: { ...rest?.lists, clusters } }
}

/** What did not change is shared with `old`. Throws TypeError or RangeError where the change is none of this snapshot. */
export function patch(old: Snapshot, change: Change): Snapshot {
  const moved = moveAlong(old, change.lists?.['clusters'] ?? null)
  return patchObject(moved, change, lists) as Snapshot
}

// --- objects and lists

function diffObject(old: object, next: object, inside: Lists): Change | null {
  const set: Record<string, unknown> = {}
  const steps: Record<string, readonly Step[]> = {}
  const before = new Map(Object.entries(old))
  const after = new Map(Object.entries(next).filter(([, value]) => value !== undefined))
  for (const [name, value] of after) {
    const was: unknown = before.get(name)
    const list = Object.hasOwn(inside, name) ? inside[name] : undefined
    if (list !== undefined && Array.isArray(was) && Array.isArray(value)) {
      const found = diffList(was, value, list)
      if (found !== null) steps[name] = found
    } else if (was === undefined || !equal(was, value)) define(set, name, value)
  }
  const drop = [...before]
    .filter(([name, was]) => was !== undefined && !after.has(name))
    .map(([name]) => name)
  const change = {
    ...(Object.keys(set).length === 0 ? {} : { set }),
    ...(drop.length === 0 ? {} : { drop }),
    ...(Object.keys(steps).length === 0 ? {} : { lists: steps }),
  }
  return Object.keys(change).length === 0 ? null : change
}

function diffList(
  old: readonly unknown[],
  next: readonly unknown[],
  { key, lists: inside }: List,
): Step[] | null {
  // Where nothing came or went there is no need for keys.
  let start = 0
  while (start < old.length && start < next.length && equal(old[start], next[start])) start++
  if (start === old.length && start === next.length) return null
  const keyOf = (item: unknown): string => (typeof item === 'string' ? item : key((item ?? {}) as Item))
  const places = new Map<string, number[]>()
  for (let at = old.length - 1; at >= start; at--) {
    const name = keyOf(old[at])
    const found = places.get(name)
    if (found === undefined) places.set(name, [at])
    else found.push(at)
  }
  const steps: Step[] = []
  let run = { from: 0, count: start }
  const take = (at: number): void => {
    if (at === run.from + run.count) run = { from: run.from, count: run.count + 1 }
    else {
      flush()
      run = { from: at, count: 1 }
    }
  }
  const flush = (): void => {
    if (run.count > 0) steps.push(run)
    run = { from: run.from + run.count, count: 0 }
  }
  for (const item of next.slice(start)) {
    const at = places.get(keyOf(item))?.pop()
    const was = at === undefined ? undefined : old[at]
    if (at !== undefined && equal(was, item)) {
      take(at)
      continue
    }
    flush()
    const change = isItem(was) && isItem(item) ? diffObject(was, item, inside) : null
    if (at === undefined || change === null) steps.push({ add: item })
    else {
      steps.push({ at, change })
      run = { from: at + 1, count: 0 }
    }
  }
  flush()
  return steps
}

function patchObject(old: object, change: Change, inside: Lists): object {
  const result: Record<string, unknown> = { ...old, ...change.set }
  for (const name of change.drop ?? []) Reflect.deleteProperty(result, name)
  for (const [name, steps] of Object.entries(change.lists ?? {})) {
    const list = Object.hasOwn(inside, name) ? inside[name] : undefined
    const was = result[name]
    if (list === undefined || !Array.isArray(was)) throw new TypeError(`${name} is no list that has steps`)
    result[name] = patchList(was, steps, list)
  }
  return result
}

function patchList(old: readonly unknown[], steps: readonly Step[], { lists: inside }: List): unknown[] {
  const result: unknown[] = []
  for (const step of steps) {
    if ('add' in step) result.push(step.add)
    else if ('change' in step) {
      const was = old[step.at]
      if (!isItem(was)) throw new RangeError(`there is no item ${step.at} to change`)
      result.push(patchObject(was, step.change, inside))
    } else {
      const end = endOf(step, old.length)
      for (let at = step.from; at < end; at++) result.push(old[at])
    }
  }
  return result
}

function endOf({ from, count }: { from: number; count: number }, length: number): number {
  if (from >= 0 && from + count <= length) return from + count
  throw new RangeError(`there are no items from ${from} to ${from + count}`)
}

function isItem(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Also `__proto__` is a name like any other. */
function define(target: object, name: string, value: unknown): void {
  Object.defineProperty(target, name, { value, enumerable: true, configurable: true, writable: true })
}

// --- the places of clusters

/** The snapshot with its clusters as they were and every reference to one as it will be after these steps. */
function moveAlong(old: Snapshot, steps: readonly Step[] | null): Snapshot {
  if (steps === null) return old
  const places = old.clusters.map(() => -1)
  let place = 0
  for (const step of steps) {
    if ('add' in step) place++
    else if ('change' in step) places[step.at] = place++
    else {
      const end = endOf(step, places.length)
      for (let at = step.from; at < end; at++) places[at] = place++
    }
  }
  if (places.every((to, from) => to === from)) return old
  return { ...old, outbound: mapped(old.outbound, (service) => moveService(service, places)) }
}

function moveService(service: OutboundService, places: readonly number[]): OutboundService {
  // Out of range it names no cluster before or after.
  const to = (parts: readonly WeightedCluster[]): readonly WeightedCluster[] =>
    mapped(parts, (part) => {
      const cluster = places[part.cluster] ?? part.cluster
      return cluster === part.cluster ? part : { ...part, cluster }
    })
  const move = <T extends { readonly clusters: readonly WeightedCluster[] }>(owner: T): T => {
    const clusters = to(owner.clusters)
    return clusters === owner.clusters ? owner : { ...owner, clusters }
  }
  const ports = mapped(service.ports, (port) => {
    const { routes, tlsRoutes, tcp } = port
    const moved = {
      routes: mapped(routes, move),
      tlsRoutes: tlsRoutes === undefined ? undefined : mapped(tlsRoutes, move),
      tcp: to(tcp),
    }
    if (moved.routes === routes && moved.tlsRoutes === tlsRoutes && moved.tcp === tcp) return port
    const { tlsRoutes: rules, ...others } = { ...port, ...moved }
    return rules === undefined ? others : { ...others, tlsRoutes: rules }
  })
  return ports === service.ports ? service : { ...service, ports }
}

/** The same list where every item stays the same. */
function mapped<T>(list: readonly T[], to: (item: T) => T): readonly T[] {
  const result = list.map(to)
  return result.every((item, at) => item === list[at]) ? list : result
}
