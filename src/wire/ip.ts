// Addresses as text and as the bytes that binary protocols carry.

const octet = /^(?:0|[1-9]\d{0,2})$/
const group = /^[0-9a-f]{1,4}$/i

/** 4 or 16 bytes; null: no address. IPv4 at the end of IPv6 is understood; a zone (`fe80::1%eth0`) is no address's part. */
export function ipBytes(text: string): Buffer | null {
  return text.includes(':') ? sixBytes(text) : fourBytes(text)
}

function fourBytes(text: string): Buffer | null {
  const octets = text.split('.')
  if (octets.length !== 4 || !octets.every((part) => octet.test(part) && Number(part) < 256)) return null
  return Buffer.from(octets.map(Number))
}

function sixBytes(text: string): Buffer | null {
  const halves = text.split('::')
  if (halves.length > 2) return null
  const [head, tail] = halves.map((half, at) => groups(half, at === halves.length - 1))
  if (head === null || head === undefined || tail === null) return null
  if (tail === undefined) return head.length === 16 ? Buffer.from(head) : null
  // `::` stands for at least one group.
  const gap = 16 - head.length - tail.length
  return gap < 2 ? null : Buffer.from([...head, ...Array.from({ length: gap }, () => 0), ...tail])
}

/** `isLast`: they end the address, so IPv4 may end them. */
function groups(text: string, isLast: boolean): number[] | null {
  if (text === '') return []
  const bytes: number[] = []
  const parts = text.split(':')
  for (const [at, part] of parts.entries()) {
    if (group.test(part)) {
      const value = Number.parseInt(part, 16)
      bytes.push(value >> 8, value & 255)
      continue
    }
    const four = isLast && at === parts.length - 1 ? fourBytes(part) : null
    if (four === null) return null
    bytes.push(...four)
  }
  return bytes
}

/** The reverse, of 4 or 16 bytes at a place: dotted, or eight groups that are not shortened. */
export function ipText(buf: Buffer, at: number, size: 4 | 16): string {
  if (size === 4) return buf.subarray(at, at + 4).join('.')
  const parts: string[] = []
  for (let i = at; i < at + 16; i += 2) parts.push(buf.readUInt16BE(i).toString(16))
  return parts.join(':')
}
