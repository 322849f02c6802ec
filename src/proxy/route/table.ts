// Which route of a service port takes a request: the first that matches. Where there are many, those whose path cannot match
// are not even asked.
import type { RouteMatch } from '../../snapshot/types.ts'
import type { Headers } from '../chain/ends.ts'
import type { Exchange } from '../chain/exchange.ts'
import type { LiveRoute } from '../live.ts'
import { pathOf } from './match.ts'

/** Up to so many routes it is quicker to ask them all. */
const few = 8

/** Places of routes, ascending. */
type Places = number[]

export class RouteTable {
  readonly routes: readonly LiveRoute[]
  /** Routes by what their path must be. Null: there are few, and all are asked. */
  readonly #exact: Map<string, Places> | null
  /** By what it must begin with; the lengths of those. */
  readonly #prefixes: Map<string, Places>
  readonly #lengths: readonly number[]
  /** Those that the path alone does not rule out. */
  readonly #others: Places

  /** `matches` are what each route was made of, in the same order. */
  constructor(routes: readonly LiveRoute[], matches: readonly (readonly RouteMatch[])[]) {
    this.routes = routes
    this.#exact = routes.length > few ? new Map() : null
    this.#prefixes = new Map()
    this.#others = []
    const lengths = new Set<number>()
    for (const [place, any] of matches.entries()) {
      if (this.#exact === null || !any.every(isIndexed) || any.length === 0) {
        this.#others.push(place)
        continue
      }
      for (const { path } of any) {
        const { kind, value } = path!
        if (kind === 'prefix') lengths.add(value.length)
        put(kind === 'exact' ? this.#exact : this.#prefixes, value, place)
      }
    }
    this.#lengths = [...lengths].toSorted((a, b) => a - b)
  }

  find(x: Exchange, head: Headers): LiveRoute | null {
    let best = this.routes.length
    if (this.#exact !== null) {
      const path = pathOf(x.path)
      best = this.#first(this.#exact.get(path), best, x, head)
      for (const length of this.#lengths) {
        if (length > path.length) break
        best = this.#first(this.#prefixes.get(path.slice(0, length)), best, x, head)
      }
    }
    best = this.#first(this.#others, best, x, head)
    return this.routes[best] ?? null
  }

  /** The first of these routes before `best` that matches; `best` where none does. */
  #first(places: Places | undefined, best: number, x: Exchange, head: Headers): number {
    if (places === undefined) return best
    for (const place of places) {
      if (place >= best) break
      const { matches } = this.routes[place]!
      if (matches === null || matches(x, head)) return place
    }
    return best
  }
}

function isIndexed({ path, ignoreUriCase }: RouteMatch): boolean {
  return path !== null && !ignoreUriCase && (path.kind === 'exact' || path.kind === 'prefix')
}

function put(map: Map<string, Places>, key: string, place: number): void {
  const places = map.get(key)
  if (places === undefined) map.set(key, [place])
  else if (places.at(-1) !== place) places.push(place)
}
