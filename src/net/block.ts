// Memory for bytes on their way out, used again: what is allocated for each piece makes the collector run over the whole heap
// every 64 MB of traffic.

/** Bytes of one block: no read brings more. */
export const blockBytes = 65_536
const maxSpare = 64
const spare: Buffer[] = []

export function takeBlock(): Buffer {
  return spare.pop() ?? Buffer.allocUnsafeSlow(blockBytes)
}

/** Nobody looks at it any more. */
export function giveBlock(block: Buffer): void {
  if (spare.length < maxSpare) spare.push(block)
}
