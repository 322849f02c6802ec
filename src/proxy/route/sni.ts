// Which split takes a TLS connection that is passed through: the first rule that names its server name, as in Istio.
import type { Split } from './pick.ts'

/** Names are lower case; `*.example.com` stands for every name below it, however deep, and `*` for everything. */
export class ServerNames {
  readonly #splits: readonly Split[]
  /** Pattern → the first rule that has it. */
  readonly #places: ReadonlyMap<string, number>

  constructor(rules: readonly { readonly hosts: readonly string[]; readonly split: Split }[]) {
    const places = new Map<string, number>()
    for (const [place, { hosts }] of rules.entries()) {
      for (const host of hosts) if (!places.has(host)) places.set(host, place)
    }
    this.#places = places
    this.#splits = rules.map(({ split }) => split)
  }

  /** '' for a client that names no server: only `*` takes it. Null: no rule does. */
  pick(name: string): Split | null {
    let first = this.#first(name, Infinity)
    for (let dot = name.indexOf('.'); dot >= 0; dot = name.indexOf('.', dot + 1)) {
      first = this.#first(`*${name.slice(dot)}`, first)
    }
    first = this.#first('*', first)
    return this.#splits[first] ?? null
  }

  #first(pattern: string, best: number): number {
    return Math.min(this.#places.get(pattern) ?? Infinity, best)
  }
}
