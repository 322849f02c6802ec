// What is kept of a request's body: until there is an upstream, and for another try.
import { blockBytes, giveBlock, takeBlock } from '../../net/block.ts'
import type { Exchange } from './exchange.ts'

/** Less than this is kept in a place of its own size. */
const littleBytes = 4096

/** Adds a copy of borrowed bytes. */
export function keepBody(x: Exchange, buffer: Buffer, start: number, end: number): void {
  const bytes = end - start
  let kept = x.kept
  if (kept === null) x.kept = kept = placeFor(bytes)
  else if (x.queued + bytes > kept.length) {
    const larger = placeFor(Math.max(x.queued + bytes, littleBytes))
    kept.copy(larger, 0, 0, x.queued)
    if (kept.length === blockBytes) giveBlock(kept)
    x.kept = kept = larger
  }
  buffer.copy(kept, x.queued, start, end)
  x.queued += bytes
}

export function dropBody(x: Exchange): void {
  if (x.kept !== null && x.kept.length === blockBytes) giveBlock(x.kept)
  x.kept = null
  x.queued = 0
}

function placeFor(bytes: number): Buffer {
  if (bytes < littleBytes) return Buffer.allocUnsafe(bytes)
  return bytes <= blockBytes ? takeBlock() : Buffer.allocUnsafeSlow(bytes * 2)
}
