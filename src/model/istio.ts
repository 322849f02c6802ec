// Text → checked Istio objects. Three checks, all problems at once: closed keys (honoured.ts), Istio's own schemas
// (@kubernetes-models/istio, generated from its CRDs), and what schemas cannot say (virtualservice.ts,
// destinationrule.ts). Only the command line imports this: the schemas are large.
import { DestinationRule as DestinationRuleModel } from '@kubernetes-models/istio/networking.istio.io/v1/DestinationRule'
import { VirtualService as VirtualServiceModel } from '@kubernetes-models/istio/networking.istio.io/v1/VirtualService'
import { checkDestinationRule } from './destinationrule.ts'
import type { Findings } from './findings.ts'
import { destinationRuleShape, strangers, virtualServiceShape, type Node } from './honoured.ts'
import { defaultNamespace, nameFault } from './name.ts'
import { didYouMean } from './near.ts'
import { isRecord, type Problem } from './problem.ts'
import { istioVersion, kinds, type Kind, type Resource } from './resource.ts'
import { parseText, printPath, type Parsed, type Path } from './text.ts'
import { checkVirtualService } from './virtualservice.ts'

export interface CheckContext {
  /** For objects that name none. Default `default`. */
  readonly namespace?: string
  /** What the registry holds already; null: not known (offline), so references are only warned about. */
  readonly known?: readonly Resource[] | null
}

export interface Checked {
  /** Those without errors of their own, in the order of the text, with their namespace filled in. */
  readonly resources: Resource[]
  readonly problems: Problem[]
}

// Istio's other kinds and ours to come: refused by name instead of as unknown words.
const laterKinds = [
  'AuthorizationPolicy', 'EnvoyFilter', 'Gateway', 'PeerAuthentication', 'ProxyConfig', 'RequestAuthentication',
  'ServiceEntry', 'Sidecar', 'Telemetry', 'WasmPlugin', 'WorkloadEntry', 'WorkloadGroup',
] // prettier-ignore

const versions = [istioVersion, 'networking.istio.io/v1beta1', 'networking.istio.io/v1alpha3']

/** Checks the texts of all files together: an object may refer to one in another file. */
export function checkTexts(
  files: readonly { readonly source: string; readonly text: string }[],
  context: CheckContext = {},
): Checked {
  const documents: Parsed[] = []
  const problems: Problem[] = []
  for (const file of files) {
    const parsed = parseText(file.text, file.source)
    problems.push(...parsed.problems)
    for (const document of parsed.documents) documents.push(...unfoldList(document))
  }
  const checked = checkParsed(documents, context)
  const sources = files.map(({ source }) => source)
  return { resources: checked.resources, problems: inOrder([...problems, ...checked.problems], sources) }
}

/** By file, as they were given, and line: the order in which they are mended. */
function inOrder(problems: readonly Problem[], sources: readonly string[]): Problem[] {
  const place = ({ source }: Problem): readonly [number, number] => {
    const [, file = source, line = '0'] = /^(.*):(\d+)$/s.exec(source) ?? []
    return sources.includes(source) ? [sources.indexOf(source), 0] : [sources.indexOf(file), Number(line)]
  }
  return problems.toSorted((a, b) => {
    const [one, other] = [place(a), place(b)]
    return one[0] - other[0] || one[1] - other[1]
  })
}

/** The same for objects made in memory (`route set`). */
export function checkObjects(objects: readonly unknown[], context: CheckContext = {}): Checked {
  return checkParsed(
    objects.map((value) => ({ value, source: '', line: () => 0 })),
    context,
  )
}

// kubectl's `kind: List`.
function unfoldList(document: Parsed): Parsed[] {
  const value = document.value
  if (!isRecord(value) || value['kind'] !== 'List' || !Array.isArray(value['items'])) return [document]
  return value['items'].map((item: unknown, index) => ({
    value: item,
    source: document.source,
    line: (path: Path) => document.line(['items', index, ...path]),
  }))
}

interface Draft {
  readonly resource: Resource
  readonly findings: Findings
  readonly failed: boolean
}

function checkParsed(documents: readonly Parsed[], context: CheckContext): Checked {
  const problems: Problem[] = []
  const drafts: Draft[] = []
  for (const document of documents) {
    const draft = checkStructure(document, context.namespace ?? defaultNamespace, problems)
    if (draft === null) continue
    const twin = drafts.some((other) => label(other.resource) === label(draft.resource))
    if (twin) draft.findings.error(['metadata', 'name'], 'is written twice')
    drafts.push(draft)
  }
  // The registry's objects as they will be: those written now replace those known.
  const written = drafts.map((draft) => draft.resource)
  const names = new Set(written.map(label))
  const known = context.known ?? null
  const rest = (known ?? []).filter((resource) => !names.has(label(resource)))
  const world = { resources: [...written, ...rest], complete: known !== null }
  for (const { resource, findings } of drafts) {
    if (resource.kind === 'VirtualService') checkVirtualService(resource, world, findings)
    else checkDestinationRule(resource, world, findings)
  }
  return { resources: drafts.filter((draft) => !draft.failed).map((draft) => draft.resource), problems }
}

function label(resource: Resource): string {
  return `${resource.kind} ${resource.metadata.namespace}/${resource.metadata.name}`
}

function checkStructure(document: Parsed, namespace: string, problems: Problem[]): Draft | null {
  const value = document.value
  const own = { failed: false }
  let title = ''
  const add = (level: Problem['level'], path: Path, message: string, hint?: string): void => {
    if (level === 'error') own.failed = true
    const source = document.source === '' ? '' : `${document.source}:${document.line(path)}`
    const where = [title, printPath(path)].filter((part) => part !== '').join(' ')
    problems.push({ level, source, path: where, message, hint })
  }
  const findings: Findings = {
    error: (path, message, hint) => add('error', path, message, hint),
    warn: (path, message, hint) => add('warning', path, message, hint),
  }
  if (!isRecord(value)) {
    findings.error([], 'must be an object with apiVersion, kind, metadata and spec')
    return null
  }
  const kind = readKind(value, findings)
  if (kind === null) return null
  const metadata = isRecord(value['metadata']) ? value['metadata'] : {}
  const name = typeof metadata['name'] === 'string' ? metadata['name'] : ''
  const space = typeof metadata['namespace'] === 'string' ? metadata['namespace'] : namespace
  title = `${kind} ${space}/${name === '' ? '?' : name}:`
  const badName = nameFault(name)
  if (badName !== null)
    findings.error(['metadata', 'name'], name === '' ? 'is missing' : `"${name}" ${badName}`)
  const badSpace = nameFault(space)
  if (badSpace !== null) findings.error(['metadata', 'namespace'], `"${space}" ${badSpace}`)
  if (!isRecord(value['spec'])) {
    findings.error(['spec'], 'is missing')
    return null
  }
  const shape = kind === 'VirtualService' ? virtualServiceShape : destinationRuleShape
  const closed = checkKeys(value, shape, findings)
  const sound = checkSchema(kind, value, closed, findings)
  if (!sound) return null
  // The schema and the closed keys have shown that the value has this shape. What a Kubernetes API server adds is left
  // out: agents refuse objects with fields that they do not know.
  const { labels, annotations } = metadata
  const resource = {
    apiVersion: value['apiVersion'],
    kind,
    metadata: {
      name,
      namespace: space,
      ...(labels === undefined ? {} : { labels }),
      ...(annotations === undefined ? {} : { annotations }),
    },
    spec: value['spec'],
  } as unknown as Resource
  return {
    resource,
    findings,
    get failed(): boolean {
      return own.failed
    },
  }
}

function readKind(value: Readonly<Record<string, unknown>>, findings: Findings): Kind | null {
  const written = value['kind']
  const version = value['apiVersion']
  if (typeof written !== 'string') {
    findings.error(['kind'], 'is missing', `one of ${kinds.join(', ')}`)
    return null
  }
  const kind = kinds.find((known) => known === written)
  if (kind === undefined) {
    if (laterKinds.includes(written)) findings.error(['kind'], `kind ${written} is not honoured yet`)
    else
      findings.error(
        ['kind'],
        `unknown kind "${written}"`,
        didYouMean(written, kinds) ?? `one of ${kinds.join(', ')}`,
      )
    return null
  }
  if (typeof version !== 'string' || !versions.includes(version)) {
    findings.error(['apiVersion'], `must be ${istioVersion}, not ${JSON.stringify(version ?? null)}`)
  }
  return kind
}

/** Paths refused here; the schema need not speak of what lies below them. */
function checkKeys(value: unknown, shape: Node, findings: Findings): string[] {
  const closed: string[] = []
  for (const { path, key, later, known } of strangers(value, shape)) {
    if (path[0] === 'status' || (path[0] === 'metadata' && later)) continue
    closed.push(`/${path.join('/')}`)
    if (later) findings.error(path, 'is not honoured yet', 'remove it')
    else findings.error(path, 'unknown key', didYouMean(key, known) ?? 'remove it')
  }
  return closed
}

interface SchemaFault {
  readonly instancePath: string
  readonly keyword: string
  readonly message?: string
}

function checkSchema(
  kind: Kind,
  value: Readonly<Record<string, unknown>>,
  closed: readonly string[],
  findings: Findings,
): boolean {
  const { status: _, ...rest } = value
  const data = { ...rest, apiVersion: istioVersion } as never
  const model = kind === 'VirtualService' ? new VirtualServiceModel(data) : new DestinationRuleModel(data)
  try {
    model.validate()
    return true
  } catch (error) {
    const faults: unknown =
      isRecord(error) || error instanceof Error ? Reflect.get(error as object, 'errors') : null
    if (!Array.isArray(faults)) throw error
    const said = new Set<string>()
    let sound = true
    for (const fault of faults as SchemaFault[]) {
      const at = fault.instancePath
      if (closed.some((path) => at === path || at.startsWith(`${path}/`))) continue
      sound = false
      // Each branch of a union complains; one line per place is enough.
      if (said.has(at)) continue
      said.add(at)
      findings.error(readPointer(at, value), explain(fault))
    }
    return sound
  }
}

function explain(fault: SchemaFault): string {
  if (['oneOf', 'anyOf', 'not'].includes(fault.keyword)) return 'holds fields that exclude each other'
  return (fault.message ?? 'is not valid').replaceAll("'", '"')
}

// "/spec/http/0" → ['spec', 'http', 0]
function readPointer(pointer: string, root: unknown): Path {
  const path: (string | number)[] = []
  let at = root
  for (const raw of pointer.split('/').slice(1)) {
    const step = raw.replaceAll('~1', '/').replaceAll('~0', '~')
    if (Array.isArray(at)) {
      path.push(Number(step))
      at = at[Number(step)]
    } else {
      path.push(step)
      at = isRecord(at) ? at[step] : undefined
    }
  }
  return path
}
