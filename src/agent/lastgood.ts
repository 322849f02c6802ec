// The proxy's last good state on its disk, with which it starts when nobody is there to tell it anything: snapshot.json and
// secrets.json. Always whole: a file is made beside and takes the old one's place.
import { randomBytes } from 'node:crypto'
import { constants } from 'node:fs'
import { open, readdir, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Clock, Timer } from '../clock.ts'
import { reason } from '../errors.ts'
import type { Log } from '../log.ts'
import type { Secrets, Snapshot } from '../snapshot/types.ts'

/** Changes that the running proxy has are written at once, but no more often than this: a thousand at a time cost one file. */
const everyMs = 1000
/** After a disk that was full, say. */
const againMs = 10_000
/** Roughly so much is turned into text at a time, and the event loop seen to in between. Characters. */
const pieceSize = 64 * 1024

export interface LastGoodOptions {
  readonly folder: string
  readonly clock: Clock
  readonly log: Log
}

export class LastGood {
  readonly #options: LastGoodOptions
  /** What the proxy accepted last, put back when it rejects what is there; text: as it was found. */
  #good: Snapshot | string | null = null
  #isRead = false
  #isStopped = false
  /** Hash of what is in snapshot.json, secrets as they are in secrets.json; '': not known. */
  #saved = { snapshot: '', secrets: '' }
  /** Hash of what snapshot.json will hold when all that has begun is over. */
  #coming = ''
  #soon: Timer | null = null
  /** Before then nothing is written that the proxy has already. Monotonic. */
  #notBefore = 0
  /** One file at a time. */
  #turn: Promise<void> = Promise.resolve()

  constructor(options: LastGoodOptions) {
    this.#options = options
  }

  putSecrets(secrets: Secrets): Promise<void> {
    return this.#inTurn(async () => {
      const text = JSON.stringify(secrets)
      if (text !== this.#saved.secrets) await this.#write('secrets.json', [text])
      this.#saved.secrets = text
    })
  }

  /** Before it is pushed, so that a proxy that starts at any moment finds what it needs. */
  put(snapshot: Snapshot): Promise<void> {
    // It is newer than what was to be saved in a moment.
    this.#soon?.cancel()
    this.#soon = null
    this.#coming = snapshot.hash
    return this.#inTurn(() => this.#put(snapshot))
  }

  /** The proxy runs with it; if it is not on disk, it will be. */
  accepted(snapshot: Snapshot): void {
    const { clock } = this.#options
    this.#good = snapshot
    this.#isRead = true
    if (this.#soon !== null || this.#coming === snapshot.hash) return
    const wait = this.#notBefore - clock.monotonic()
    if (wait <= 0) void this.#putGood()
    else this.#soon = clock.after(wait, () => void this.flush())
  }

  /** The proxy goes on with the one before; so must the one that boots from disk. */
  rejected({ hash }: Snapshot): Promise<void> {
    return this.#inTurn(async () => {
      if (this.#good === null || this.#saved.snapshot !== hash) return
      await this.#write('snapshot.json', typeof this.#good === 'string' ? [this.#good] : piecesOf(this.#good))
      this.#saved.snapshot = this.#coming = typeof this.#good === 'string' ? '' : this.#good.hash
    })
  }

  /** What was to be saved in a moment is saved now. */
  async flush(): Promise<void> {
    if (this.#soon === null) return this.#turn
    this.#soon.cancel()
    this.#soon = null
    await this.#putGood()
  }

  /** Saves what is still to be saved, and is done. */
  stop(): Promise<void> {
    this.#isStopped = true
    return this.flush()
  }

  async #putGood(): Promise<void> {
    const { clock, log } = this.#options
    const good = this.#good
    this.#notBefore = clock.monotonic() + everyMs
    if (good === null || typeof good === 'string') return
    await this.put(good).catch((error: unknown) => {
      log.error({ error: reason(error) }, "the proxy's state was not saved")
      if (!this.#isStopped) this.#soon ??= clock.after(againMs, () => void this.flush())
    })
  }

  async #put(snapshot: Snapshot): Promise<void> {
    const { folder } = this.#options
    if (!this.#isRead) {
      this.#good = await readForeign(join(folder, 'snapshot.json')).catch(() => null)
      await this.#sweep()
      this.#isRead = true
    }
    if (snapshot.hash === this.#saved.snapshot) return
    await this.#write('snapshot.json', piecesOf(snapshot))
    this.#saved.snapshot = snapshot.hash
  }

  #inTurn(run: () => Promise<void>): Promise<void> {
    const result = this.#turn.then(run)
    this.#turn = result.catch(() => undefined)
    return result
  }

  /** Files that were half written when an agent was killed. */
  async #sweep(): Promise<void> {
    const { folder } = this.#options
    for (const name of await readdir(folder))
      if (/^\.(snapshot|secrets)\.json\.[0-9a-f]{12}$/.test(name))
        await rm(join(folder, name), { force: true })
  }

  /**
   * Atomic, 0600, owned by whoever owns the folder: the proxy's user. The folder is that user's, so nothing in it is
   * trusted: the new file is made exclusively (which follows no links) and then takes the old one's place.
   */
  async #write(name: string, pieces: Iterable<string>): Promise<void> {
    const { folder } = this.#options
    const { uid, gid } = await stat(folder)
    const temporary = join(folder, `.${name}.${randomBytes(6).toString('hex')}`)
    try {
      const file = await open(temporary, 'wx', 0o600)
      try {
        for (const piece of pieces) await file.writeFile(piece)
        if (process.getuid?.() === 0) await file.chown(uid, gid)
        await file.sync()
      } finally {
        await file.close()
      }
      await rename(temporary, join(folder, name))
    } catch (error) {
      await rm(temporary, { force: true })
      throw error
    }
  }
}

/** The snapshot as JSON, in pieces. */
function* piecesOf(snapshot: Snapshot): Generator<string> {
  let piece = ''
  let comma = '{'
  for (const [name, value] of Object.entries(snapshot)) {
    piece += `${comma}${JSON.stringify(name)}:`
    comma = ','
    if (!Array.isArray(value)) {
      piece += JSON.stringify(value)
      continue
    }
    for (const [at, item] of value.entries()) {
      piece += `${at === 0 ? '[' : ','}${JSON.stringify(item)}`
      if (piece.length < pieceSize) continue
      yield piece
      piece = ''
    }
    piece += value.length === 0 ? '[]' : ']'
  }
  yield `${piece}}`
}

/**
 * A file of the proxy's folder. What it says may be put back later, readable by the proxy's user: were it a link, that
 * user would be given any file of root's. A pipe would never end.
 */
async function readForeign(path: string): Promise<string | null> {
  const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = constants
  const file = await open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
  try {
    const found = await file.stat()
    return found.isFile() && found.nlink === 1 ? await file.readFile('utf8') : null
  } finally {
    await file.close()
  }
}
