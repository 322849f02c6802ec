// OpenSSH's known_hosts: plain, hashed and patterned names, revoked keys (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT).
import { createHmac } from 'node:crypto'

export interface KnownKey {
  /** `ssh-ed25519` */
  readonly type: string
  readonly base64: string
  readonly revoked: boolean
}

/** The name under which OpenSSH files a host: bare on port 22, else `[host]:port`. */
export function knownName(host: string, port: number): string {
  return port === 22 ? host.toLowerCase() : `[${host.toLowerCase()}]:${port}`
}

/** Every key that a file holds for a name. Certificate authorities are skipped: host certificates are not checked. */
export function knownKeys(text: string, name: string): KnownKey[] {
  const keys: KnownKey[] = []
  for (const raw of text.split('\n')) {
    const words = raw.trim().split(/\s+/)
    const first = words[0] ?? ''
    if (first === '' || first.startsWith('#')) continue
    const marked = first.startsWith('@')
    if (marked && first !== '@revoked') continue
    const [names = '', type = '', base64 = ''] = marked ? words.slice(1) : words
    if (base64 !== '' && matches(names, name)) keys.push({ type, base64, revoked: marked })
  }
  return keys
}

export type Verdict = 'known' | 'unknown' | 'changed' | 'revoked'

/** What a file says of the key that a host has shown. */
export function verdict(keys: readonly KnownKey[], type: string, base64: string): Verdict {
  if (keys.some((key) => key.revoked && key.base64 === base64)) return 'revoked'
  const good = keys.filter((key) => !key.revoked)
  if (good.some((key) => key.base64 === base64)) return 'known'
  return good.some((key) => key.type === type) ? 'changed' : 'unknown'
}

function matches(names: string, name: string): boolean {
  if (names.startsWith('|1|')) {
    const [, , salt = '', hash = ''] = names.split('|')
    return createHmac('sha1', Buffer.from(salt, 'base64')).update(name).digest('base64') === hash
  }
  let found = false
  for (const pattern of names.toLowerCase().split(',')) {
    const negated = pattern.startsWith('!')
    if (!glob(negated ? pattern.slice(1) : pattern, name)) continue
    if (negated) return false
    found = true
  }
  return found
}

/** `*` and `?`, as in ssh_config(5). */
export function glob(pattern: string, text: string): boolean {
  if (!/[*?]/.test(pattern)) return pattern === text
  const source = pattern
    .replaceAll(/[.+^${}()|[\]\\]/g, '\\$&')
    .replaceAll('*', '.*')
    .replaceAll('?', '.')
  return new RegExp(`^${source}$`).test(text)
}
