// What a join is pinned to where there is no SSH connection whose host key was seen.
import { createHash } from 'node:crypto'
import type { Host } from '../../host/host.ts'
import { must } from '../../host/local.ts'

/**
 * The host's own public SSH key, for this machine. A machine without sshd is pinned by a key made of its machine id:
 * nobody can log in with it, it only tells whether a later join is the same machine.
 */
export async function ownHostKey(host: Host): Promise<string> {
  const text = await must(
    host,
    'read the host key',
    'cat /etc/ssh/ssh_host_ed25519_key.pub 2>/dev/null || cat /etc/machine-id',
  )
  if (text.startsWith('ssh-')) return text.trim().split(' ').slice(0, 2).join(' ')
  const part = (bytes: Buffer): Buffer => Buffer.concat([Buffer.from([0, 0, 0, bytes.length]), bytes])
  const digest = createHash('sha256').update(`meshctl ${text.trim()}`).digest()
  return `ssh-ed25519 ${Buffer.concat([part(Buffer.from('ssh-ed25519')), part(digest)]).toString('base64')}`
}
