// The difference of two texts by lines, with three lines around each change.

export interface DiffLine {
  readonly mark: ' ' | '+' | '-'
  readonly text: string
}

/** Every line of both texts in order; the longest common part is unmarked. */
export function diffLines(before: string, after: string): DiffLine[] {
  const a = split(before)
  const b = split(after)
  // lengths[i][j]: longest common subsequence of a from i and b from j. Objects are some dozens of lines.
  const lengths: number[][] = Array.from({ length: a.length + 1 }, () => Array<number>(b.length + 1).fill(0))
  const at = (i: number, j: number): number => lengths[i]?.[j] ?? 0
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) {
      const row = lengths[i]
      if (row !== undefined)
        row[j] = a[i] === b[j] ? at(i + 1, j + 1) + 1 : Math.max(at(i + 1, j), at(i, j + 1))
    }
  }
  const lines: DiffLine[] = []
  let i = 0
  let j = 0
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      lines.push({ mark: ' ', text: a[i] ?? '' })
      i += 1
      j += 1
    } else if (j >= b.length || (i < a.length && at(i + 1, j) >= at(i, j + 1))) {
      lines.push({ mark: '-', text: a[i] ?? '' })
      i += 1
    } else {
      lines.push({ mark: '+', text: b[j] ?? '' })
      j += 1
    }
  }
  return lines
}

/** The changed lines and `around` lines about them; `…` where lines are left out. Empty: no difference. */
export function printDiff(before: string, after: string, around: number = 3): string[] {
  const lines = diffLines(before, after)
  const near = lines.map((_, index) =>
    lines.slice(Math.max(0, index - around), index + around + 1).some((line) => line.mark !== ' '),
  )
  const shown: string[] = []
  for (const [index, line] of lines.entries()) {
    if (near[index] === true) shown.push(`${line.mark} ${line.text}`.trimEnd())
    else if (near[index - 1] === true && near.includes(true, index)) shown.push('  …')
  }
  return shown
}

function split(text: string): string[] {
  return text === '' ? [] : text.replace(/\n$/, '').split('\n')
}
