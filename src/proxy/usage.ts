// What a process of ours costs: CPU time and memory, by the names that Prometheus clients use.
import type { Counter, Gauge, Stats } from './stats.ts'

export class Usage {
  readonly #cpu: Counter
  readonly #memory: Gauge
  readonly #heap: Gauge
  #seconds = 0

  constructor(stats: Stats) {
    const of = 'of the supervisor and its workers'
    this.#cpu = stats.counter('process_cpu_seconds_total', `CPU time ${of}.`)
    this.#memory = stats.gauge('process_resident_memory_bytes', `Memory ${of}.`)
    this.#heap = stats.gauge('nodejs_heap_size_used_bytes', `JavaScript heap in use ${of}.`)
  }

  /** Takes the figures of now. */
  read(): void {
    const { user, system } = process.cpuUsage()
    const seconds = (user + system) / 1e6
    this.#cpu.add(seconds - this.#seconds)
    this.#seconds = seconds
    const { heapUsed, rss } = process.memoryUsage()
    this.#memory.set(rss)
    this.#heap.set(heapUsed)
  }
}
