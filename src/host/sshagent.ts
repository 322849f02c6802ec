// A running ssh-agent as a way to log in: which one, and which of its keys (ssh_config(5): IdentityAgent, IdentitiesOnly).
import { readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import ssh2 from 'ssh2'

type Identities = Parameters<ssh2.OpenSSHAgent['getIdentities']>[0]

/** The agent's socket; null: none. `configured` is IdentityAgent, null where it is not said. */
export function agentSocket(configured: string | null): string | null {
  const said = configured === null || configured === 'SSH_AUTH_SOCK' ? '$SSH_AUTH_SOCK' : configured
  if (said.toLowerCase() === 'none') return null
  const variable = /^\$\{?(\w+)\}?$/.exec(said)?.[1]
  const path = variable === undefined ? said : (process.env[variable] ?? '')
  return path === '' ? null : path.replace(/^~(?=\/)|%d/, homedir())
}

/** The agent with those of its keys only whose public halves lie beside these key files (`FILE.pub`). */
export class ChosenAgent extends ssh2.OpenSSHAgent {
  readonly #allowed: ReadonlySet<string>

  constructor(socket: string, keyFiles: readonly string[]) {
    super(socket)
    this.#allowed = new Set(keyFiles.flatMap((file) => publicHalf(file) ?? []))
  }

  override getIdentities(answer: Identities): void {
    const isAllowed = (key: ssh2.ParsedKey | ssh2.PublicKeyEntry): boolean =>
      'getPublicSSH' in key && this.#allowed.has(key.getPublicSSH().toString('base64'))
    super.getIdentities((error, keys) => {
      if (error !== undefined && error !== null) answer(error)
      else answer(undefined, keys?.filter(isAllowed) ?? [])
    })
  }
}

function publicHalf(file: string): string | null {
  try {
    return readFileSync(`${file}.pub`, 'utf8').split(' ')[1]?.trim() ?? null
  } catch {
    return null
  }
}
