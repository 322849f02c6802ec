// Progress of one or several hosts at once: a redrawn line each on a terminal, plain lines otherwise.
import { systemClock, type Clock, type Timer } from '../clock.ts'
import { clean } from './table.ts'
import type { Terminal } from './terminal.ts'

export type LineState = 'waiting' | 'running' | 'done' | 'failed' | 'undoing'

export interface ProgressLine {
  /** What is being done now: `upload`, with a lowercase detail. */
  step(step: string, detail?: string): void
  /** A change of the detail only: not printed where lines are plain. */
  detail(detail: string): void
  end(state: 'done' | 'failed', detail: string): void
  undoing(detail: string): void
}

interface Line {
  readonly label: string
  state: LineState
  step: string
  detail: string
  readonly began: number
  ended: number | null
}

const frames = ['|', '/', '-', '\\']

export class Progress {
  readonly #terminal: Terminal
  readonly #clock: Clock
  readonly #lines: Line[] = []
  #drawn = 0
  #frame = 0
  #timer: Timer | null = null
  /** The last question; the next one waits for it. */
  #question: Promise<unknown> = Promise.resolve()
  #asking = 0

  constructor(terminal: Terminal, clock: Clock = systemClock) {
    this.#terminal = terminal
    this.#clock = clock
  }

  line(label: string): ProgressLine {
    const line: Line = {
      label,
      state: 'waiting',
      step: '',
      detail: '',
      began: this.#clock.monotonic(),
      ended: null,
    }
    this.#lines.push(line)
    if (this.#terminal.live) this.#timer ??= this.#clock.every(120, () => this.#draw())
    const change = (state: LineState, step: string, detail: string): void => {
      line.state = state
      line.step = step
      line.detail = clean(detail)
      if (state === 'done' || state === 'failed') line.ended = this.#clock.monotonic()
      if (!this.#terminal.live) this.#terminal.say(this.#plain(line))
    }
    return {
      step: (step, detail = '') => change('running', step, detail),
      detail: (detail) => {
        line.detail = clean(detail)
      },
      end: (state, detail) => change(state, line.step, detail),
      undoing: (detail) => change('undoing', line.step, detail),
    }
  }

  /** The terminal for whoever speaks meanwhile: the lines make room and are drawn again below. */
  get terminal(): Terminal {
    const around = (print: (text: string) => void): ((text: string) => void) => {
      return (text) => {
        this.#clear()
        print(text)
      }
    }
    return {
      ...this.#terminal,
      say: around(this.#terminal.say),
      out: around(this.#terminal.out),
      aside: (ask) => this.#aside(ask),
    }
  }

  /** The lines are taken away until the question is answered: redrawing would write over it. */
  async #aside<T>(ask: () => Promise<T>): Promise<T> {
    this.#asking += 1
    const before = this.#question
    const answer = (async () => {
      await before.catch(() => null)
      this.#clear()
      return await this.#terminal.aside(ask)
    })()
    this.#question = answer
    try {
      return await answer
    } finally {
      this.#asking -= 1
    }
  }

  /** Draws the last state and leaves the lines where they are. */
  close(): void {
    this.#timer?.cancel()
    this.#timer = null
    if (this.#terminal.live) this.#draw()
    this.#drawn = 0
  }

  #clear(): void {
    if (this.#drawn > 0) process.stderr.write(`\u001B[${this.#drawn}A\r\u001B[J`)
    this.#drawn = 0
  }

  #plain(line: Line): string {
    const parts = [`${line.label}:`]
    if (line.state === 'done') parts.push('done')
    else if (line.state === 'failed') parts.push('failed')
    else if (line.state === 'undoing') parts.push('undoing')
    if (line.step !== '' && line.state !== 'done') parts.push(line.step)
    if (line.detail !== '') parts.push(`${this.#terminal.symbols.dot} ${line.detail}`)
    if (line.ended !== null) parts.push(`(${seconds(line.ended - line.began)})`)
    return parts.join(' ')
  }

  #draw(): void {
    if (this.#asking > 0) return
    this.#frame += 1
    const { paintTalk: paint, symbols } = this.#terminal
    const room = Math.max(...this.#lines.map((line) => line.label.length), 0)
    const columns = Math.min(process.stderr.columns > 0 ? process.stderr.columns : 80, 120)
    // Up over what was drawn before, then each line anew; erase to the end of the line.
    let text = this.#drawn > 0 ? `\u001B[${this.#drawn}A` : ''
    for (const line of this.#lines) {
      const mark = {
        waiting: symbols.dot,
        running: frames[this.#frame % frames.length] ?? '|',
        undoing: frames[this.#frame % frames.length] ?? '|',
        done: symbols.ok,
        failed: symbols.bad,
      }[line.state]
      const color = {
        waiting: paint.dim,
        running: paint.cyan,
        undoing: paint.yellow,
        done: paint.green,
        failed: paint.red,
      }
      const time = seconds((line.ended ?? this.#clock.monotonic()) - line.began)
      const state = line.state === 'undoing' ? `undoing ${line.step}` : line.step
      const plain = `${line.label.padEnd(room)}  ${time.padStart(5)}  ${line.state === 'done' ? '' : `${state.padEnd(10)} `}${line.detail}`
      text += `\r${color[line.state](mark)} ${plain.slice(0, columns - 4)}\u001B[K\n`
    }
    this.#drawn = this.#lines.length
    process.stderr.write(text)
  }
}

function seconds(ms: number): string {
  return ms < 100_000 ? `${(ms / 1000).toFixed(1)}s` : `${Math.round(ms / 1000)}s`
}
