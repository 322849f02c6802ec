// HPACK in the plainest way: a table that is an array, strings, exceptions. What the fast one is compared with.
import { codeLengths } from '../../../src/wire/h2/huffman.ts'
import { staticFields } from '../../../src/wire/h2/statictable.ts'
import type { Fields } from '../../../src/wire/h2/fields.ts'

export interface Plain {
  name: string
  value: string
  /** How it came on the wire. */
  as: 'indexed' | 'indexing' | 'plain' | 'never'
}

/** Codes by symbol as strings of bits; the code is canonical. */
const codes: string[] = []
let next = 0n
for (let length = 1; length <= 30; length++) {
  next *= 2n
  for (let symbol = 0; symbol <= 256; symbol++) {
    if (codeLengths[symbol] === length) codes[symbol] = (next++).toString(2).padStart(length, '0')
  }
}
const symbols = new Map(codes.map((code, symbol) => [code, symbol]))

export function huffmanBits(text: string): string {
  return Array.from(text, (char) => codes[char.charCodeAt(0)]).join('')
}

/** Bits to bytes, filled up with ones. */
export function pack(bits: string): Buffer {
  const full = bits.padEnd(Math.ceil(bits.length / 8) * 8, '1')
  return Buffer.from((full.match(/.{8}/g) ?? []).map((byte) => Number.parseInt(byte, 2)))
}

function huffmanText(bytes: Buffer): string {
  let text = ''
  let code = ''
  for (const bit of [...bytes].map((byte) => byte.toString(2).padStart(8, '0')).join('')) {
    code += bit
    const symbol = symbols.get(code)
    if (symbol === undefined) continue
    if (symbol === 256) throw new Error('end of string')
    text += String.fromCharCode(symbol)
    code = ''
  }
  if (code.length > 7 || code.includes('0')) throw new Error('padding')
  return text
}

export class ReferenceDecoder {
  table: [string, string][] = []
  bytes = 4096
  readonly allowed: number

  constructor(allowed: number) {
    this.allowed = allowed
  }

  decode(block: Buffer): Plain[] {
    const fields: Plain[] = []
    let at = 0
    const integer = (bits: number): number => {
      if (at >= block.length) throw new Error('truncated')
      const full = 2 ** bits - 1
      let value = block[at++]! & full
      if (value < full) return value
      for (let shift = 0; ; shift += 7) {
        if (at >= block.length) throw new Error('truncated')
        if (shift > 21) throw new Error('integer')
        const byte = block[at++]!
        value += (byte & 127) * 2 ** shift
        if (value > 2 ** 24) throw new Error('integer')
        if (byte < 128) return value
      }
    }
    const string = (): string => {
      const isHuffman = (block[at] ?? 0) >= 128
      const length = integer(7)
      if (at + length > block.length) throw new Error('truncated')
      const bytes = block.subarray(at, (at += length))
      return isHuffman ? huffmanText(bytes) : bytes.toString('latin1')
    }
    const entry = (index: number): [string, string] => {
      if (index > 0 && index < 62) return [staticFields[index]!.name, staticFields[index]!.value]
      const found = this.table[index - 62]
      if (found === undefined) throw new Error('index')
      return found
    }
    while (at < block.length) {
      const byte = block[at]!
      if (byte >= 128) {
        const [name, value] = entry(integer(7))
        fields.push({ name, value, as: 'indexed' })
      } else if (byte >= 32 && byte < 64) {
        const size = integer(5)
        if (fields.length > 0 || size > this.allowed) throw new Error('update')
        this.bytes = size
        this.evict()
      } else {
        const as = byte >= 64 ? 'indexing' : byte >= 16 ? 'never' : 'plain'
        const index = integer(byte >= 64 ? 6 : 4)
        const name = index > 0 ? entry(index)[0] : string()
        const value = string()
        fields.push({ name, value, as })
        if (as !== 'indexing') continue
        this.table.unshift([name, value])
        this.evict()
      }
    }
    return fields
  }

  evict(): void {
    while (this.size > this.bytes) this.table.pop()
  }

  get size(): number {
    return this.table.reduce((sum, [name, value]) => sum + name.length + value.length + 32, 0)
  }
}

/** What our decoder found, pseudo fields first in a fixed order. */
export function listOf(fields: Fields): [string, string][] {
  const list: [string, string][] = []
  if (fields.status !== 0) list.push([':status', String(fields.status)])
  if (fields.method !== '') list.push([':method', fields.method])
  if (fields.scheme !== '') list.push([':scheme', fields.scheme])
  if (fields.authority !== '') list.push([':authority', fields.authority])
  if (fields.path !== '') list.push([':path', fields.path])
  if (fields.protocol !== '') list.push([':protocol', fields.protocol])
  for (let i = 0; i < fields.count; i++) list.push([fields.name(i), fields.value(i)])
  return list
}

/** A literal as a peer may write it; `first` chooses its kind, names of their own only. */
export function literal(first: number, name: string, value: string, isHuffman: boolean = false): Buffer {
  const part = (text: string): Buffer => {
    const bytes = isHuffman ? pack(huffmanBits(text)) : Buffer.from(text, 'latin1')
    return Buffer.concat([prefixed(isHuffman ? 128 : 0, 7, bytes.length), bytes])
  }
  return Buffer.concat([Buffer.from([first]), part(name), part(value)])
}

export function prefixed(first: number, bits: number, value: number): Buffer {
  const full = 2 ** bits - 1
  if (value < full) return Buffer.from([first | value])
  const bytes = [first | full]
  for (value -= full; value > 127; value = Math.floor(value / 128)) bytes.push((value % 128) | 128)
  return Buffer.from([...bytes, value])
}
