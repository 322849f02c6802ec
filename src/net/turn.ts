// The end of a read: when its owner has dealt with the bytes, whoever has gathered output meanwhile may send it at once,
// without the queue and the objects of a microtask.

let depth = 0
let wanted: (() => void) | null = null

/** Whether some owner is dealing with bytes right now. */
export function isReading(): boolean {
  return depth > 0
}

/** Calls once when the read that is dealt with now is over. One caller at a time: the last one wins. */
export function afterRead(callback: () => void): void {
  wanted = callback
}

/** For connections: around the call of their owner. */
export function beginRead(): void {
  depth++
}

export function endRead(): void {
  if (--depth > 0 || wanted === null) return
  const callback = wanted
  wanted = null
  callback()
}
