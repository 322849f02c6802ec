// Reads fields of an untrusted object one by one, collecting problems with path and line; then refuses what is left.
import { didYouMean } from './near.ts'
import { isRecord, type Problem } from './problem.ts'
import { printPath, type Path } from './text.ts'

/** Where problems go, and how a path gets its source. */
export interface Sink {
  readonly problems: Problem[]
  source(path: Path): string
}

export class Fields {
  readonly #object: Readonly<Record<string, unknown>>
  readonly #path: Path
  readonly #sink: Sink
  readonly #read = new Set<string>()

  constructor(object: Readonly<Record<string, unknown>>, path: Path, to: Sink) {
    this.#object = object
    this.#path = path
    this.#sink = to
  }

  /** A child object; undefined when absent or not an object (then a problem). */
  static of(value: unknown, path: Path, to: Sink): Fields | undefined {
    if (isRecord(value)) return new Fields(value, path, to)
    to.problems.push({
      level: 'error',
      source: to.source(path),
      path: printPath(path),
      message: 'must be an object',
    })
    return undefined
  }

  /** The value under the first of the names that is there (aliases, as Consul allows `EnableTagOverride` forms). */
  take(...names: readonly string[]): unknown {
    let found: unknown
    for (const name of names) {
      this.#read.add(name)
      if (found === undefined && Object.hasOwn(this.#object, name)) found = this.#object[name] ?? undefined
    }
    return found
  }

  text(name: string, ...aliases: readonly string[]): string | undefined {
    const value = this.take(name, ...aliases)
    if (value === undefined || typeof value === 'string') return value
    if (typeof value === 'number' || typeof value === 'boolean') return String(value)
    this.fault(name, 'must be a string')
    return undefined
  }

  port(name: string, ...aliases: readonly string[]): number | undefined {
    const value = this.take(name, ...aliases)
    if (value === undefined) return undefined
    const number = typeof value === 'string' && /^\d{1,5}$/.test(value) ? Number(value) : value
    if (typeof number === 'number' && Number.isInteger(number) && number >= 1 && number <= 65_535)
      return number
    this.fault(name, 'must be a port from 1 to 65535')
    return undefined
  }

  choice<T extends string>(
    name: string,
    choices: readonly T[],
    ...aliases: readonly string[]
  ): T | undefined {
    const value = this.text(name, ...aliases)
    if (value === undefined) return undefined
    const found = choices.find((choice) => choice === value)
    if (found === undefined)
      this.fault(name, `must be ${choices.join(', ')}; not "${value}"`, didYouMean(value, choices))
    return found
  }

  list(name: string, ...aliases: readonly string[]): readonly unknown[] {
    const value = this.take(name, ...aliases)
    if (value === undefined) return []
    if (Array.isArray(value)) return value
    this.fault(name, 'must be a list')
    return []
  }

  /** A map of strings; numbers and booleans, which YAML makes of `version: 1`, are taken as text. */
  strings(name: string, ...aliases: readonly string[]): Record<string, string> {
    const value = this.take(name, ...aliases)
    if (value === undefined) return {}
    if (!isRecord(value)) {
      this.fault(name, 'must be a map of strings')
      return {}
    }
    const found: Record<string, string> = {}
    for (const [key, item] of Object.entries(value)) {
      if (typeof item === 'string' || typeof item === 'number' || typeof item === 'boolean')
        found[key] = String(item)
      else this.fault(name, `${key}: must be a string`)
    }
    return found
  }

  fault(name: string | number | null, message: string, hint?: string): void {
    const path = name === null ? this.#path : [...this.#path, name]
    this.#sink.problems.push({
      level: 'error',
      source: this.#sink.source(path),
      path: printPath(path),
      message,
      hint,
    })
  }

  /** Problems for every key not taken: `known` ones are real but not honoured yet, others unknown. */
  close(known: readonly string[]): void {
    for (const key of Object.keys(this.#object)) {
      if (this.#read.has(key)) continue
      if (known.includes(key)) this.fault(key, 'is not honoured yet', 'remove it')
      else this.fault(key, 'unknown key', didYouMean(key, this.#read) ?? 'remove it')
    }
  }

  get path(): Path {
    return this.#path
  }

  get sink(): Sink {
    return this.#sink
  }
}
