// Counters, gauges and histograms of one process, and their Prometheus text. An instrument is a plain object: whoever
// counts on the hot path asks for it once and keeps it.

export type Labels = Readonly<Record<string, string>>

export interface Counter {
  add(n: number): void
}

export interface Gauge extends Counter {
  set(value: number): void
}

export interface Histogram {
  observe(value: number): void
}

type Kind = 'counter' | 'gauge' | 'histogram'

/** JSON form of all instruments: what a worker sends to its supervisor. */
export type Dump = readonly Family[]

interface Family {
  readonly name: string
  readonly help: string
  readonly kind: Kind
  /** Upper bounds of a histogram's buckets, ascending, without +Inf; else empty. */
  readonly buckets: readonly number[]
  readonly series: readonly Series[]
}

interface Series {
  readonly labels: Labels
  /** Counter and gauge: one number. Histogram: a count per bucket, the count beyond the last, and the sum. */
  readonly values: number[]
}

/** Label values come from peers too: a name that would grow beyond this counts the rest in one series `overflow`. */
const maxSeries = 2000

interface Metric {
  readonly help: string
  readonly kind: Kind
  readonly buckets: readonly number[]
  readonly instruments: Map<string, Instrument>
}

type Instrument = { readonly labels: Labels; readonly values: number[] } & Gauge & Histogram

export class Stats {
  readonly #metrics = new Map<string, Metric>()

  /** The same name and labels give the same instrument. */
  counter(name: string, help: string, labels: Labels = {}): Counter {
    return this.#instrument('counter', name, help, labels, [])
  }

  gauge(name: string, help: string, labels: Labels = {}): Gauge {
    return this.#instrument('gauge', name, help, labels, [])
  }

  /** `buckets`: upper bounds, ascending; those of the first call for a name hold for all its series. */
  histogram(name: string, help: string, labels: Labels, buckets: readonly number[]): Histogram {
    return this.#instrument('histogram', name, help, labels, buckets)
  }

  dump(): Dump {
    return [...this.#metrics].map(([name, { help, kind, buckets, instruments }]) => ({
      name,
      help,
      kind,
      buckets,
      series: [...instruments.values()].map(({ labels, values }) => ({ labels, values: [...values] })),
    }))
  }

  #instrument(
    kind: Kind,
    name: string,
    help: string,
    labels: Labels,
    buckets: readonly number[],
  ): Instrument {
    let metric = this.#metrics.get(name)
    if (metric === undefined) {
      metric = { help, kind, buckets, instruments: new Map() }
      this.#metrics.set(name, metric)
    }
    if (metric.kind !== kind) throw new TypeError(`metric ${name} is a ${metric.kind}`)
    let key = keyOf(labels)
    let instrument = metric.instruments.get(key)
    if (instrument !== undefined) return instrument
    if (metric.instruments.size >= maxSeries) {
      labels = { overflow: 'true' }
      key = keyOf(labels)
      instrument = metric.instruments.get(key)
    }
    if (instrument === undefined) {
      instrument = kind === 'histogram' ? new Buckets(labels, metric.buckets) : new Value(labels)
      metric.instruments.set(key, instrument)
    }
    return instrument
  }

  /** Adds up the dumps of several processes: counters, histograms and gauges alike. */
  static merge(dumps: readonly Dump[]): Dump {
    const families = new Map<string, { family: Family; series: Map<string, Series> }>()
    for (const dump of dumps) {
      for (const family of dump) {
        let merged = families.get(family.name)
        if (merged === undefined) {
          merged = { family, series: new Map() }
          families.set(family.name, merged)
        }
        for (const { labels, values } of family.series) {
          const key = keyOf(labels)
          const sum = merged.series.get(key)
          if (sum === undefined) merged.series.set(key, { labels, values: [...values] })
          else for (let i = 0; i < sum.values.length; i++) sum.values[i]! += values[i] ?? 0
        }
      }
    }
    return [...families.values()].map(({ family, series }) => ({ ...family, series: [...series.values()] }))
  }

  /** Prometheus' text format 0.0.4, names in order. */
  static text(dump: Dump): string {
    const lines: string[] = []
    for (const { name, help, kind, buckets, series } of dump.toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
      lines.push(`# HELP ${name} ${escape(help)}`, `# TYPE ${name} ${kind}`)
      for (const { labels, values } of series) {
        if (kind !== 'histogram') {
          lines.push(`${name}${labelText(labels)} ${values[0]}`)
          continue
        }
        let count = 0
        for (let i = 0; i <= buckets.length; i++) {
          count += values[i]!
          lines.push(`${name}_bucket${labelText({ ...labels, le: `${buckets[i] ?? '+Inf'}` })} ${count}`)
        }
        lines.push(`${name}_sum${labelText(labels)} ${values[buckets.length + 1]}`)
        lines.push(`${name}_count${labelText(labels)} ${count}`)
      }
    }
    return `${lines.join('\n')}\n`
  }
}

class Value implements Instrument {
  readonly labels: Labels
  readonly values: number[] = [0]

  constructor(labels: Labels) {
    this.labels = labels
  }

  add(n: number): void {
    this.values[0]! += n
  }

  set(value: number): void {
    this.values[0] = value
  }

  observe(value: number): void {
    this.add(value)
  }
}

class Buckets implements Instrument {
  readonly labels: Labels
  readonly values: number[]
  readonly #bounds: readonly number[]

  constructor(labels: Labels, bounds: readonly number[]) {
    this.labels = labels
    this.#bounds = bounds
    // Doubles from the start, so that the array never changes its kind on the hot path.
    this.values = Array.from({ length: bounds.length + 2 }, () => 0.5)
    this.values.fill(0)
  }

  observe(value: number): void {
    const bounds = this.#bounds
    let i = 0
    while (i < bounds.length && value > bounds[i]!) i++
    this.values[i]!++
    this.values[bounds.length + 1]! += value
  }

  add(n: number): void {
    this.observe(n)
  }

  set(value: number): void {
    this.observe(value)
  }
}

function keyOf(labels: Labels): string {
  const names = Object.keys(labels).toSorted()
  let key = ''
  for (const name of names) key += `${name}\0${labels[name]}\0`
  return key
}

function labelText(labels: Labels): string {
  const parts = Object.entries(labels).map(
    ([name, value]) => `${name}="${escape(value).replaceAll('"', '\\"')}"`,
  )
  return parts.length === 0 ? '' : `{${parts.join(',')}}`
}

function escape(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n')
}
