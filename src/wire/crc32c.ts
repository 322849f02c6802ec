// CRC-32C (Castagnoli, RFC 3720 B.4). Node's zlib has the other polynomial only.

const table = new Uint32Array(256)
for (let byte = 0; byte < 256; byte++) {
  let crc = byte
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1
  table[byte] = crc
}

export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff
  for (const byte of bytes) crc = (crc >>> 8) ^ table[(crc ^ byte) & 255]!
  return (crc ^ 0xffffffff) >>> 0
}
