// Blocking queries. Everybody who asks the same question waits in one group; a commit wakes only the groups whose topic
// it touched, and each group reads and serialises its answer once, however many wait.
import type { Clock, Timer } from '../../clock.ts'

export interface Answer {
  readonly status: number
  readonly index: number
  readonly type: string
  readonly body: Buffer
}

/** A read that can be blocked on. */
export interface Watch {
  /** `nodes`, `service:web`, `key:a/b`, `prefix:a/`: what must change for the answer to change. */
  readonly topic: string
  /** Tells questions about one topic apart. */
  readonly question: string
  read(): Answer
}

interface Waiter {
  readonly min: number
  readonly timer: Timer
  done(answer: Answer): void
}

interface Group {
  readonly watch: Watch
  readonly waiters: Set<Waiter>
}

export class Waits {
  readonly #clock: Clock
  /** topic → question → group */
  readonly #groups = new Map<string, Map<string, Group>>()
  readonly #prefixes = new Set<string>()
  #count = 0

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** How many wait. */
  get size(): number {
    return this.#count
  }

  /** Calls `done` once: when the answer's index has passed `min`, or after `ms`. Returns what makes it forget. */
  wait(watch: Watch, min: number, ms: number, done: (answer: Answer) => void): () => void {
    const group = this.#group(watch)
    const waiter: Waiter = {
      min,
      done,
      timer: this.#clock.after(ms, () => {
        this.#remove(group, waiter)
        done(watch.read())
      }),
    }
    group.waiters.add(waiter)
    this.#count++
    return () => this.#remove(group, waiter)
  }

  wake(topics: ReadonlySet<string>): void {
    const woken = new Set<string>()
    for (const topic of topics) {
      if (this.#groups.has(topic)) woken.add(topic)
      if (!topic.startsWith('key:')) continue
      const key = topic.slice(4)
      for (const prefix of this.#prefixes) if (key.startsWith(prefix)) woken.add(`prefix:${prefix}`)
    }
    for (const topic of woken) {
      for (const group of this.#groups.get(topic)?.values() ?? []) this.#answer(group)
    }
  }

  /** Answers everybody with what there is now. */
  flush(): void {
    for (const groups of this.#groups.values()) {
      for (const group of groups.values()) this.#answer(group, true)
    }
  }

  #answer(group: Group, all = false): void {
    const answer = group.watch.read()
    for (const waiter of group.waiters) {
      if (!all && answer.index <= waiter.min) continue
      this.#remove(group, waiter)
      waiter.done(answer)
    }
  }

  #group(watch: Watch): Group {
    let groups = this.#groups.get(watch.topic)
    if (groups === undefined) {
      groups = new Map()
      this.#groups.set(watch.topic, groups)
      if (watch.topic.startsWith('prefix:')) this.#prefixes.add(watch.topic.slice(7))
    }
    let group = groups.get(watch.question)
    if (group === undefined) {
      group = { watch, waiters: new Set() }
      groups.set(watch.question, group)
    }
    return group
  }

  #remove(group: Group, waiter: Waiter): void {
    if (!group.waiters.delete(waiter)) return
    this.#count--
    waiter.timer.cancel()
    if (group.waiters.size > 0) return
    const { topic, question } = group.watch
    const groups = this.#groups.get(topic)
    if (groups?.get(question) === group) groups.delete(question)
    if (groups?.size === 0) {
      this.#groups.delete(topic)
      if (topic.startsWith('prefix:')) this.#prefixes.delete(topic.slice(7))
    }
  }
}
