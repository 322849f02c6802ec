// Just enough of tar's ustar format to pack a release, with nothing in it that differs between two runs.

export interface TarEntry {
  /** Relative, at most 100 bytes. */
  readonly name: string
  readonly mode: number
  readonly content: Buffer
}

const block = 512

/** Entries in the order given; owner root, time zero. */
export function pack(entries: readonly TarEntry[]): Buffer {
  const parts: Buffer[] = []
  for (const { name, mode, content } of entries) {
    parts.push(header(name, mode, content.length), content)
    parts.push(Buffer.alloc((block - (content.length % block)) % block))
  }
  parts.push(Buffer.alloc(2 * block))
  return Buffer.concat(parts)
}

/** POSIX.1-1988 ustar header: fixed fields, numbers in octal. */
function header(name: string, mode: number, size: number): Buffer {
  if (Buffer.byteLength(name) > 100) throw new Error(`name too long for tar: ${name}`)
  const out = Buffer.alloc(block)
  const octal = (value: number, at: number, length: number): void => {
    out.write(value.toString(8).padStart(length - 1, '0'), at, 'latin1')
  }
  out.write(name, 0, 'utf8')
  octal(mode, 100, 8)
  octal(0, 108, 8)
  octal(0, 116, 8)
  octal(size, 124, 12)
  octal(0, 136, 12)
  out.write('        0', 148, 'latin1')
  out.write('ustar\u000000', 257, 'latin1')
  out.write('root', 265, 'latin1')
  out.write('root', 297, 'latin1')
  const sum = out.reduce((total, byte) => total + byte, 0)
  out.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1')
  return out
}
