// YAML or JSON text, one or many documents ↔ objects, keeping the line of every path for problems.
import { LineCounter, isMap, isNode, isSeq, parseAllDocuments, stringify, type Document } from 'yaml'
import type { Problem } from './problem.ts'

export type Path = readonly (string | number)[]

export interface Parsed {
  readonly value: unknown
  readonly source: string
  /** The 1-based line of the deepest part of the path that exists. */
  line(path: Path): number
}

/** Every document of the text. Empty documents are skipped; syntax errors are problems. */
export function parseText(text: string, source: string): { documents: Parsed[]; problems: Problem[] } {
  const counter = new LineCounter()
  const documents: Parsed[] = []
  const problems: Problem[] = []
  // Aliases are bounded (yaml's maxAliasCount) so that a small file cannot become a huge object.
  const parsed = parseAllDocuments(text, { lineCounter: counter, uniqueKeys: true, prettyErrors: false })
  for (const document of Array.isArray(parsed) ? parsed : []) {
    for (const fault of document.errors) {
      const { line } = counter.linePos(fault.pos[0])
      problems.push({ level: 'error', source: `${source}:${line}`, path: '', message: syntax(fault.message) })
    }
    if (document.errors.length > 0 || document.contents === null) continue
    let value: unknown
    try {
      value = document.toJS({ maxAliasCount: 100 })
    } catch (error) {
      problems.push({ level: 'error', source, path: '', message: syntax(String(error)) })
      continue
    }
    if (value !== null) documents.push({ value, source, line: (path) => lineOf(document, counter, path) })
  }
  return { documents, problems }
}

export function printYaml(value: unknown): string {
  return stringify(value, { lineWidth: 100, aliasDuplicateObjects: false })
}

export function printYamlDocuments(values: readonly unknown[]): string {
  return values.map(printYaml).join('---\n')
}

/** `spec.http[0].headers["x-a.b"]` */
export function printPath(path: Path): string {
  let text = ''
  for (const step of path) {
    if (typeof step === 'number') text += `[${step}]`
    else if (/^[A-Za-z_][\w-]*$/.test(step)) text += text === '' ? step : `.${step}`
    else text += `["${step}"]`
  }
  return text
}

function lineOf(document: Document, counter: LineCounter, path: Path): number {
  let node: unknown = document.contents
  let offset = offsetOf(node) ?? 0
  for (const step of path) {
    let next: unknown
    if (isMap(node)) {
      const pair = node.items.find((item) => isNode(item.key) && String(item.key) === String(step))
      // The key's own line: a value may begin on the next one.
      const at = offsetOf(pair?.key)
      if (at !== undefined) offset = at
      next = pair?.value
    } else if (isSeq(node) && typeof step === 'number') {
      next = node.items[step]
      const at = offsetOf(next)
      if (at !== undefined) offset = at
    }
    if (next === undefined || next === null) break
    node = next
  }
  return counter.linePos(offset).line
}

function offsetOf(node: unknown): number | undefined {
  return isNode(node) ? node.range?.[0] : undefined
}

function syntax(message: string): string {
  const first = message.split('\n')[0] ?? message
  return `not valid YAML or JSON: ${first.charAt(0).toLowerCase()}${first.slice(1).replace(/\.$/, '')}`
}
