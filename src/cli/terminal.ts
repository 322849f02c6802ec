// The two streams of a command: data goes to `out`, talk to `say`. Colour, symbols and width are decided once.
import { Chalk, type ChalkInstance } from 'chalk'

export interface Terminal {
  /** Data: standard output. */
  readonly out: (text: string) => void
  /** Talk: standard error. */
  readonly say: (text: string) => void
  /** Somebody sits there and can be asked. */
  readonly interactive: boolean
  /** Standard error is a terminal: lines may be redrawn. */
  readonly live: boolean
  /** Columns that a table may fill. */
  readonly width: number
  /** For data and for talk; no colour unless that stream is a terminal. */
  readonly paint: ChalkInstance
  readonly paintTalk: ChalkInstance
  readonly symbols: { readonly ok: string; readonly warn: string; readonly bad: string; readonly dot: string }
  readonly env: Readonly<Record<string, string | undefined>>
  /** Runs a question; who redraws lines meanwhile leaves the terminal to it. */
  readonly aside: <T>(ask: () => Promise<T>) => Promise<T>
}

const unicode = { ok: '√', warn: '‼', bad: '×', dot: '·' }
const ascii = { ok: 'ok', warn: '!!', bad: 'xx', dot: '-' }

export function systemTerminal(): Terminal {
  const { env, stdin, stdout, stderr } = process
  const columns = Number(env['COLUMNS'])
  // With NO_COLOR set to anything, and for dumb terminals, there is no colour: https://no-color.org
  const plain = (env['NO_COLOR'] ?? '') !== '' || env['TERM'] === 'dumb'
  const chalkFor = (stream: { isTTY: boolean }): ChalkInstance =>
    new Chalk({ level: stream.isTTY && !plain ? 1 : 0 })
  return {
    out: (text) => void stdout.write(text.endsWith('\n') ? text : `${text}\n`),
    say: (text) => void stderr.write(text.endsWith('\n') ? text : `${text}\n`),
    interactive: stdin.isTTY && stderr.isTTY && env['CI'] === undefined,
    live: stderr.isTTY && env['TERM'] !== 'dumb',
    width: stdout.isTTY ? stdout.columns : columns > 20 ? columns : 80,
    paint: chalkFor(stdout),
    paintTalk: chalkFor(stderr),
    symbols: speaksUtf8(env) ? unicode : ascii,
    env,
    aside: (ask) => ask(),
  }
}

function speaksUtf8(env: Readonly<Record<string, string | undefined>>): boolean {
  const locale = [env['LC_ALL'], env['LC_CTYPE'], env['LANG']].find(
    (value) => value !== undefined && value !== '',
  )
  return locale !== undefined && /utf-?8/i.test(locale)
}
