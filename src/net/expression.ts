// Regular expressions that users write in routes, in RE2's syntax as Istio has it, matched in linear time: V8's engine
// for such expressions (flag `l`) walks all alternatives at once and never backtracks. It refuses what has no linear
// answer (back references, look-around), as RE2 does, but also counts above 16, which RE2 takes: those are written out.
import { setFlagsFromString } from 'node:v8'

setFlagsFromString('--enable-experimental-regexp-engine')

/** Dot matches all; linear (V8's own). */
const flags = 'ls'

const maxSource = 1024
/** As in RE2. */
const maxCount = 1000
/** Steps of the written-out expression. Time is steps × bytes of the subject, at about 0.1 µs. */
const maxSteps = 512
/** No path or header that means anything is longer; one that is matches no expression. */
const maxSubject = 8192

/** A test for the whole of a text. Throws an Error that says what is wrong with the expression. */
export function compileExpression(source: string): (text: string) => boolean {
  if (source.length > maxSource) throw new Error(`longer than ${maxSource} characters`)
  if (/\(\?<?[=!]|\\[1-9]|\\k</.test(source))
    throw new Error('look-around and back-references are not part of RE2')
  // Alone first: `a)|(?:b` would step out of the brackets around it. And strictly (`u`): without it an escape that only
  // RE2 knows would mean its own letter.
  void new RegExp(source, 'u')
  if (/\\p|\\u\{/i.test(source.replaceAll('\\\\', ''))) throw new Error('\\p and \\u{…} are not supported')
  const expression = new RegExp(`^(?:${new Writer(source).write()})$`, flags)
  return (text) => text.length <= maxSubject && expression.test(text)
}

interface Part {
  readonly text: string
  readonly steps: number
}

/** Writes counts out and drops the names of groups. Reads only what RegExp has already found to be well formed. */
class Writer {
  readonly #source: string
  #at = 0

  constructor(source: string) {
    this.#source = source
  }

  write(): string {
    return this.#alternatives().text
  }

  /** Up to the end or the bracket that closes the group. */
  #alternatives(): Part {
    let text = ''
    let steps = 0
    while (this.#at < this.#source.length && this.#source[this.#at] !== ')') {
      if (this.#source[this.#at] === '|') {
        this.#at++
        text += '|'
        steps++
        continue
      }
      const part = this.#counted(this.#atom())
      text += part.text
      steps += part.steps
      if (steps > maxSteps) throw new Error(`too large: written out it has more than ${maxSteps} steps`)
    }
    return { text, steps }
  }

  #atom(): Part {
    const rest = this.#source.slice(this.#at)
    if (rest.startsWith('(')) {
      this.#at += /^\((?:\?:|\?<[^>]*>)?/.exec(rest)?.[0].length ?? 1
      if (this.#source[this.#at] === '?') throw new Error('this kind of group is not supported')
      const { text, steps } = this.#alternatives()
      this.#at++
      return { text: `(?:${text})`, steps: steps + 1 }
    }
    const one = /^(?:\\x[\da-f]{2}|\\u[\da-f]{4}|\\c[a-z]|\\.|\[(?:\\.|[^\]\\])*\]|.)/is.exec(rest)?.[0] ?? ''
    this.#at += one.length
    return { text: one, steps: 1 }
  }

  #counted(atom: Part): Part {
    const [found, low = '', comma, high = ''] =
      /^(?:[*+?]|\{(\d+)(,)?(\d*)\})\??/.exec(this.#source.slice(this.#at)) ?? []
    if (found === undefined) return atom
    this.#at += found.length
    if (low === '') return { text: atom.text + found, steps: atom.steps + 1 }
    const least = Number(low)
    const most = comma === undefined ? least : high === '' ? null : Number(high)
    if (Math.max(least, most ?? 0) > maxCount) throw new Error(`a count above ${maxCount}`)
    const times = most === null ? least + 1 : most
    const steps = times * (atom.steps + 1)
    // Before it is written: nested counts multiply.
    if (steps > maxSteps) throw new Error(`too large: written out it has more than ${maxSteps} steps`)
    const text =
      atom.text.repeat(least) + (most === null ? `${atom.text}*` : `${atom.text}?`.repeat(most - least))
    return { text: `(?:${text})`, steps }
  }
}
