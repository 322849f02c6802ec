// The part of ~/.ssh/config that says where a host is and who logs in (ssh_config(5)): Host blocks with patterns, the
// first value of a keyword wins. Match and Include are not read.
import { readFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { glob } from './knownhosts.ts'

export interface SshDefaults {
  readonly hostName: string | null
  readonly user: string | null
  readonly port: number | null
  readonly identityFiles: readonly string[]
  /** `user@jump:22`; null: straight. */
  readonly proxyJump: string | null
  readonly identityAgent: string | null
  readonly identitiesOnly: boolean
}

/** What a file says of a host; by default ~/.ssh/config, null: nothing. A file that is not there says nothing. */
export async function readSshDefaults(
  host: string,
  file: string | null = join(homedir(), '.ssh/config'),
): Promise<SshDefaults> {
  return sshDefaults(file === null ? '' : await readFile(file, 'utf8').catch(() => ''), host)
}

export function sshDefaults(text: string, host: string): SshDefaults {
  const values = new Map<string, string>()
  const identityFiles: string[] = []
  let applies = true
  for (const raw of text.split('\n')) {
    const line = raw.trim()
    if (line === '' || line.startsWith('#')) continue
    const found = /^(\w+)(?:\s*=\s*|\s+)(.*)$/.exec(line)
    if (found === null) continue
    const keyword = (found[1] ?? '').toLowerCase()
    const value = (found[2] ?? '').trim().replace(/^"(.*)"$/, '$1')
    if (keyword === 'match') applies = false
    else if (keyword === 'host') applies = hostMatches(value, host)
    else if (!applies) continue
    else if (keyword === 'identityfile') identityFiles.push(expand(value))
    else if (!values.has(keyword)) values.set(keyword, value)
  }
  const port = Number(values.get('port'))
  const jump = values.get('proxyjump') ?? ''
  return {
    hostName: values.get('hostname')?.replaceAll('%h', host) ?? null,
    user: values.get('user') ?? null,
    port: Number.isInteger(port) && port > 0 ? port : null,
    identityFiles,
    proxyJump: jump === '' || jump.toLowerCase() === 'none' ? null : jump,
    identityAgent: values.get('identityagent') ?? null,
    identitiesOnly: values.get('identitiesonly')?.toLowerCase() === 'yes',
  }
}

/** `[user@]host[:port]`, IPv6 in brackets, `ssh://` allowed. */
export function parseTarget(text: string): { user: string | null; host: string; port: number | null } | null {
  const found =
    /^(?:ssh:\/\/)?(?:([^@\s]+)@)?(?:\[([0-9A-Fa-f:.%\w]+)\]|([^:@\s[\]]+|[0-9A-Fa-f:]+:[0-9A-Fa-f:.]*))(?::(\d{1,5}))?$/.exec(
      text,
    )
  if (found === null) return null
  const port = found[4] === undefined ? null : Number(found[4])
  if (port !== null && (port < 1 || port > 65_535)) return null
  return { user: found[1] ?? null, host: found[2] ?? found[3] ?? '', port }
}

function hostMatches(patterns: string, host: string): boolean {
  let found = false
  for (const pattern of patterns.split(/\s+/)) {
    const negated = pattern.startsWith('!')
    if (!glob(negated ? pattern.slice(1) : pattern, host)) continue
    if (negated) return false
    found = true
  }
  return found
}

function expand(path: string): string {
  return path.replace(/^~(?=\/|$)/, homedir()).replaceAll('%d', homedir())
}
