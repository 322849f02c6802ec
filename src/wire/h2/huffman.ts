// The Huffman code of RFC 7541, appendix B. It is canonical: the lengths of the codes say all. We decode it, four bits a
// step; what we send is never coded so, since our links have more bandwidth than time.

/** Lengths in bits by symbol: runs of `length*count`; the last symbol, 256, is EOS. */
const runs =
  '13 23 28*7 24 30 28*2 30 28*8 30 28*9 6 10*2 12 13 6 8 11 10*2 8 11 8 6*3 5*3 6*7 7 8 15 6 12 10 13 6 7*22 8 7 8 ' +
  '13 19 13 14 6 15 5 6 5 6 5 6*3 5 7*2 6*3 5 6 7 6 5*2 6 7*5 15 11 14 13 28 20 22 20*2 22*3 23 22 23*5 24 23 24*2 ' +
  '22 23 24 23*4 21 22 23 22 23*2 24 22 21 20 22*2 23*2 21 23 22*2 24 21 22 23*2 21*2 22 21 23 22 23*2 20 22*3 23 ' +
  '22*2 23 26*2 20 19 22 23 22 25 26*3 27*2 26 24 25 19 21 26 27*2 26 27 24 21*2 26*2 28 27*3 20 24 20 21 22 21*2 ' +
  '23 22*2 25*2 24*2 26 23 26 27 26*2 27*5 28 27*5 26 30'

export const codeLengths: readonly number[] = runs.split(' ').flatMap((run) => {
  const [length, count = '1'] = run.split('*')
  return Array.from({ length: Number(count) }, () => Number(length))
})

const eos = 256

// A step is one entry for a state (an inner node of the code's tree, 0 its root) and four bits: the next state, the
// symbol that ended there, and these bits.
const EMITS = 1 << 16
/** The input may end here: at the root, or less than eight bits into EOS. */
const MAY_END = 1 << 17
/** EOS itself, which must not occur. */
const FAILS = 1 << 18

const steps = buildSteps()

function buildSteps(): Int32Array {
  // Children of inner nodes, two each: another inner node, or ~symbol.
  const children: number[] = [0, 0]
  let code = 0
  for (let length = 1; length <= 30; length++) {
    code *= 2
    for (let symbol = 0; symbol <= eos; symbol++)
      if (codeLengths[symbol] === length) insert(code++, length, symbol)
  }
  const states = children.length / 2
  const mayEnd = new Uint8Array(states)
  for (let node = 0, depth = 0; depth < 8; depth++, node = children[node * 2 + 1]!) mayEnd[node] = 1
  const table = new Int32Array(states * 16)
  for (let i = 0; i < table.length; i++) {
    let node = i >> 4
    let step = 0
    for (let bit = 3; bit >= 0; bit--) {
      node = children[node * 2 + ((i >> bit) & 1)]!
      if (node >= 0) continue
      step |= ~node === eos ? FAILS : EMITS | (~node << 8)
      node = 0
    }
    table[i] = step | node | (mayEnd[node] === 1 ? MAY_END : 0)
  }
  return table

  function insert(bits: number, length: number, symbol: number): void {
    let node = 0
    for (let bit = length - 1; bit > 0; bit--) {
      const at = node * 2 + ((bits >> bit) & 1)
      if (children[at] === 0) {
        children[at] = children.length / 2
        children.push(0, 0)
      }
      node = children[at]!
    }
    children[node * 2 + (bits & 1)] = ~symbol
  }
}

/** Returned by `huffmanDecode` when `out` has no room left. */
export const huffmanFull = -1
/** Returned by `huffmanDecode` when the bits are not a coded string. */
export const huffmanBroken = -2

/** Decodes buf[start, end) to out[at…]; the place behind, or one of the two above. */
export function huffmanDecode(buf: Buffer, start: number, end: number, out: Buffer, at: number): number {
  const room = out.length
  const table = steps
  let state = 0
  let last = MAY_END
  for (; start < end; start++) {
    const byte = buf[start]!
    let step = table[(state << 4) | (byte >> 4)]!
    if ((step & (EMITS | FAILS)) !== 0) {
      if ((step & FAILS) !== 0) return huffmanBroken
      if (at === room) return huffmanFull
      out[at++] = step >> 8
    }
    step = last = table[((step & 255) << 4) | (byte & 15)]!
    if ((step & (EMITS | FAILS)) !== 0) {
      if ((step & FAILS) !== 0) return huffmanBroken
      if (at === room) return huffmanFull
      out[at++] = step >> 8
    }
    state = step & 255
  }
  return (last & MAY_END) === 0 ? huffmanBroken : at
}
