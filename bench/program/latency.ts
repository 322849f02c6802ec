// Latencies of a run, kept whole: percentiles of histograms would be too coarse to compare by.
export class Latencies {
  #values = new Float64Array(65_536)
  #count = 0

  get count(): number {
    return this.#count
  }

  add(ms: number): void {
    if (this.#count === this.#values.length) {
      const larger = new Float64Array(this.#values.length * 2)
      larger.set(this.#values)
      this.#values = larger
    }
    this.#values[this.#count++] = ms
  }

  summary(): { p50_ms: number; p99_ms: number; p999_ms: number } {
    const sorted = this.#values.subarray(0, this.#count).sort()
    const at = (part: number): number => {
      const value = sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? 0
      return Math.round(value * 1000) / 1000
    }
    return { p50_ms: at(0.5), p99_ms: at(0.99), p999_ms: at(0.999) }
  }
}
