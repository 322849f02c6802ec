// Writing objects: what would change, shown as a diff, then written in one transaction that holds only if nobody else
// was faster.
import { MeshError } from '../errors.ts'
import { isRecord } from '../model/problem.ts'
import { kinds, type Kind, type Resource } from '../model/resource.ts'
import { printYaml } from '../model/text.ts'
import { changeObjects, listObjects, type Change, type Stored } from '../registry/config.ts'
import type { Registry } from '../registry/registry.ts'
import { canonical } from '../snapshot/hash.ts'
import { printDiff } from './diff.ts'
import type { Terminal } from './terminal.ts'

export interface ObjectId {
  readonly kind: Kind
  readonly namespace: string
  readonly name: string
}

/** What the registry holds. */
export interface Shelf {
  readonly resources: readonly Resource[]
  /** ModifyIndex of each, by `printId`; absent: not there. */
  readonly index: ReadonlyMap<string, string>
}

export type ChangeState = 'created' | 'configured' | 'unchanged' | 'deleted'

export interface PlannedChange extends ObjectId {
  readonly state: ChangeState
  readonly before: Resource | null
  readonly after: Resource | null
  readonly index: string
}

export async function readShelf(registry: Registry, mesh: string, terminal: Terminal): Promise<Shelf> {
  const { value } = await listObjects(registry, mesh)
  for (const problem of value.problems) terminal.say(`warning: ${problem.key}: ${problem.message}`)
  const known = value.objects.filter((stored) => kinds.some((kind) => kind === stored.object.kind))
  return {
    resources: known.map(toResource),
    index: new Map(known.map((stored) => [printId(idOf(toResource(stored))), stored.index])),
  }
}

// Only this command writes there; agents check again what they read.
function toResource(stored: Stored): Resource {
  const { object } = stored
  return (isRecord(object.spec) ? object : { ...object, spec: {} }) as unknown as Resource
}

export function idOf(resource: Resource): ObjectId {
  return { kind: resource.kind, namespace: resource.metadata.namespace, name: resource.metadata.name }
}

/** `VirtualService default/web` */
export function printId(id: ObjectId): string {
  return `${id.kind} ${id.namespace}/${id.name}`
}

/** In the order given: puts, then removals. */
export function planChanges(
  shelf: Shelf,
  puts: readonly Resource[],
  removes: readonly ObjectId[],
): PlannedChange[] {
  const find = (id: ObjectId): Resource | null =>
    shelf.resources.find((resource) => printId(idOf(resource)) === printId(id)) ?? null
  const planned: PlannedChange[] = puts.map((after) => {
    const id = idOf(after)
    const before = find(id)
    const same = before !== null && canonical(before) === canonical(after)
    const state = before === null ? 'created' : same ? 'unchanged' : 'configured'
    return { ...id, state, before, after, index: shelf.index.get(printId(id)) ?? '0' }
  })
  for (const id of removes) {
    const before = find(id)
    if (before === null)
      throw new MeshError('MSH0105', `${printId(id)} is not there`, { hint: 'meshctl get all' })
    planned.push({ ...id, state: 'deleted', before, after: null, index: shelf.index.get(printId(id)) ?? '0' })
  }
  return planned
}

/** The diff goes to the talk: what would change is no data. */
export function showDiff(terminal: Terminal, planned: readonly PlannedChange[]): void {
  const paint = terminal.paintTalk
  for (const change of planned) {
    if (change.state === 'unchanged') continue
    terminal.say(paint.bold(`${printId(change)} (${change.state})`))
    const before = change.before === null ? '' : printYaml(change.before)
    const after = change.after === null ? '' : printYaml(change.after)
    for (const line of printDiff(before, after)) {
      terminal.say(
        line.startsWith('+') ? paint.green(line) : line.startsWith('-') ? paint.red(line) : paint.dim(line),
      )
    }
  }
}

/** Writes what changes; throws MSH0304 when somebody else was faster. */
export async function commit(
  registry: Registry,
  mesh: string,
  planned: readonly PlannedChange[],
): Promise<void> {
  const changes: Change[] = []
  for (const { state, after, kind, namespace, name, index } of planned) {
    if (state === 'unchanged') continue
    changes.push(after === null ? { remove: { kind, namespace, name }, index } : { put: after, index })
  }
  if (changes.length > 0) await changeObjects(registry, mesh, changes)
}

/** `VirtualService default/web created`, one line each, as data. */
export function printStates(terminal: Terminal, planned: readonly PlannedChange[], dryRun: boolean): void {
  for (const change of planned)
    terminal.out(`${printId(change)} ${change.state}${dryRun ? ' (dry run)' : ''}`)
}

/** Reads a kind as people write it: `vs`, `virtualservices`, `DestinationRule`. */
export function readKind(text: string): Kind {
  const word = text.toLowerCase()
  const found = kinds.find((kind) => {
    const plain = kind.toLowerCase()
    const short = kind.replaceAll(/[a-z]/g, '').toLowerCase()
    return word === plain || word === `${plain}s` || word === short
  })
  if (found !== undefined) return found
  throw new MeshError('MSH0101', `unknown kind "${text}"`, { hint: `one of ${kinds.join(', ')} (vs, dr)` })
}
