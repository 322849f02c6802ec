// A list of steps on standard error: one line each, with its time; moving only on a terminal.
export class Progress {
  readonly #began: number = performance.now()
  readonly #terminal: boolean = process.stderr.isTTY === true && process.env['NO_COLOR'] === undefined

  /** Runs one step; on failure its line says so and the error goes on. `note` of the result is shown behind the name. */
  async step<T>(name: string, work: (note: (text: string) => void) => Promise<T>): Promise<T> {
    const began = performance.now()
    let noted = ''
    const took = (): string => `${((performance.now() - began) / 1000).toFixed(1)} s`
    const line = (mark: string): string => `${mark} ${name}${noted === '' ? '' : `: ${noted}`} (${took()})`
    const ticking = this.#terminal
      ? setInterval(() => process.stderr.write(`\r\x1b[2K${line('…')}`), 200)
      : undefined
    const close = (mark: string): void => {
      clearInterval(ticking)
      process.stderr.write(`${this.#terminal ? '\r\x1b[2K' : ''}${line(mark)}\n`)
    }
    try {
      const result = await work((text) => (noted = text))
      close('✔')
      return result
    } catch (error) {
      close('✘')
      throw error
    }
  }

  get seconds(): string {
    return ((performance.now() - this.#began) / 1000).toFixed(0)
  }
}
