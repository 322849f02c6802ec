// Durations as Istio and Consul write them: Go's form, `1h30m`, `1.5s`, `500ms`.

const units: Readonly<Record<string, number>> = {
  h: 3_600_000,
  m: 60_000,
  s: 1000,
  ms: 1,
  us: 0.001,
  ns: 0.000_001,
}
const whole = /^(?:\d+(?:\.\d+)?(?:h|ms|m|us|ns|s))+$/
const part = /(\d+(?:\.\d+)?)(h|ms|m|us|ns|s)/g

/** Milliseconds, or null when the text is no duration. `0s` is 0. */
export function parseDuration(text: string): number | null {
  if (text === '0') return 0
  if (!whole.test(text)) return null
  let total = 0
  for (const [, amount = '0', unit = 's'] of text.matchAll(part)) total += Number(amount) * (units[unit] ?? 0)
  return Number.isFinite(total) ? total : null
}

/** The shortest exact form: `2s`, `500ms`, `1h30m`. Whole milliseconds only. */
export function formatDuration(ms: number): string {
  if (ms <= 0) return '0s'
  let rest = Math.round(ms)
  let text = ''
  for (const unit of ['h', 'm', 's', 'ms']) {
    const size = units[unit] ?? 1
    const count = Math.floor(rest / size)
    if (count > 0) text += `${count}${unit}`
    rest -= count * size
  }
  return text
}

/** For people: `3d`, `5h`, `12m`, `9s`; the two largest units where it matters: `1d4h`. */
export function ageText(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000))
  if (seconds < 120) return `${seconds}s`
  const minutes = Math.floor(seconds / 60)
  if (minutes < 120) return `${minutes}m`
  const hours = Math.floor(minutes / 60)
  if (hours < 24) return `${hours}h${minutes % 60 === 0 ? '' : `${minutes % 60}m`}`
  const days = Math.floor(hours / 24)
  return days < 10 && hours % 24 > 0 ? `${days}d${hours % 24}h` : `${days}d`
}
