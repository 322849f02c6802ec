// Callers on one host that never stop, until told.
import type { CallOptions, Vm } from './vm.ts'
import { until } from '../agent/running.ts'

export class Load {
  done = 0
  /** What came back instead of an answer of an application: the first hundred, of which nobody reads more. */
  readonly failed: string[] = []
  /** Answers by the version that gave them. */
  readonly versions = new Map<string, number>()
  readonly #loops: readonly Promise<void>[]
  #stopped = false

  constructor(vm: Vm, options: CallOptions = {}, callers: number = 4) {
    this.#loops = Array.from({ length: callers }, () => this.#loop(vm, options))
  }

  /** Waits for so many more answers. */
  async more(requests: number): Promise<void> {
    const end = this.done + requests
    await until(`${requests} more requests`, () => this.done >= end, 60_000)
  }

  async stop(): Promise<void> {
    this.#stopped = true
    await Promise.all(this.#loops)
  }

  async #loop(vm: Vm, options: CallOptions): Promise<void> {
    while (!this.#stopped) {
      const answer = await vm.call(options).catch((error: unknown) => String(error))
      this.done++
      if (typeof answer === 'string') this.#fail(answer)
      else if (answer.told === null) this.#fail(`${answer.status} ${answer.text.trim()}`)
      else {
        const { version } = answer.told
        this.versions.set(version, (this.versions.get(version) ?? 0) + 1)
      }
    }
  }

  #fail(what: string): void {
    if (this.failed.length < 100) this.failed.push(what)
  }
}
