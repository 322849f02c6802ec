// Weighted split of a route between clusters, smooth (nginx's algorithm): over any hundred exchanges the shares are
// exact, without bursts and without chance.
import type { ClusterState } from '../cluster/cluster.ts'

interface Part {
  readonly cluster: ClusterState
  readonly weight: number
  credit: number
}

export class Split {
  #parts: Part[]
  #total: number

  /** Weights need not add up to 100; parts of weight 0 get nothing, unless all are 0: then all get the same. */
  constructor(parts: readonly { cluster: ClusterState; weight: number }[]) {
    const positive = parts.filter(({ weight }) => weight > 0)
    const used = positive.length > 0 ? positive : parts.map(({ cluster }) => ({ cluster, weight: 1 }))
    this.#total = used.reduce((sum, { weight }) => sum + weight, 0)
    // Each worker and each generation begins elsewhere in the cycle, so that many of them do not all favour the same part.
    this.#parts = used.map(({ cluster, weight }) => ({ cluster, weight, credit: 0 }))
    if (this.#parts.length > 1) {
      const start = Math.floor(Math.random() * this.#total)
      for (let i = 0; i < Math.min(start, 1000); i++) this.pick()
    }
  }

  /** Null where there is no cluster. */
  pick(): ClusterState | null {
    const parts = this.#parts
    if (parts.length <= 1) return parts[0]?.cluster ?? null
    let best = parts[0]!
    for (const part of parts) {
      part.credit += part.weight
      if (part.credit > best.credit) best = part
    }
    best.credit -= this.#total
    return best.cluster
  }
}
