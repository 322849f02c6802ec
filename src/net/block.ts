// Memory for bytes on their way out, used again: what is allocated for each piece makes the collector run over the whole heap
// every 64 MB of traffic.

/** Bytes of one block: no read brings more, but of a connection that reads wide. */
export const blockBytes = 65_536
/** The same of those. */
export const wideBytes = 262_144
const maxSpare = 64
const maxSpareWide = 32
const spare: Buffer[] = []
const spareWide: Buffer[] = []

export function takeBlock(): Buffer {
  return spare.pop() ?? Buffer.allocUnsafeSlow(blockBytes)
}

export function takeWide(): Buffer {
  return spareWide.pop() ?? Buffer.allocUnsafeSlow(wideBytes)
}

/** A block of either size that nobody looks at any more. */
export function giveBlock(block: Buffer): void {
  if (block.length === blockBytes) {
    if (spare.length < maxSpare) spare.push(block)
  } else if (spareWide.length < maxSpareWide) spareWide.push(block)
}
