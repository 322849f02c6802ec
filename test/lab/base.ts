// The root file system that every lab host stands on: a small Debian made once by debootstrap and kept.
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { debianMirror } from '../../scripts/setup.ts'
import { must, sleep } from './shell.ts'

const cache = process.env['MESHCTL_LAB_CACHE'] ?? '/var/cache/meshctl-lab'

// What a plain Debian server has, and what tests use to look at one (curl, wrk, tcpdump, nc).
const packages = [
  'systemd',
  'systemd-sysv',
  'systemd-resolved',
  'dbus',
  'openssh-server',
  'iptables',
  'ipset',
  'iproute2',
  'ca-certificates',
  'procps',
  'curl',
  'sudo',
  'tcpdump',
  'wrk',
  'iputils-ping',
  'netcat-openbsd',
  'cron',
]

// Done once in the image. sshd's keys are made per host by the lab, so the image has none.
const finish = `
set -e
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
systemctl -q enable systemd-networkd.service systemd-resolved.service ssh.service
systemctl -q mask console-getty.service systemd-networkd-wait-online.service apt-daily.timer apt-daily-upgrade.timer \
  dpkg-db-backup.timer e2scrub_all.timer fstrim.timer man-db.timer
rm -f /etc/ssh/ssh_host_*
echo 'UseDNS no' > /etc/ssh/sshd_config.d/10-lab.conf
useradd -m -s /bin/bash deploy
usermod -p '*' deploy
echo 'deploy ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/deploy
chmod 0440 /etc/sudoers.d/deploy
rm -rf /var/cache/apt/archives/*.deb
`

/** The base image's folder, made when it is not there yet (about a minute). */
export async function ensureBase(say: (line: string) => void): Promise<string> {
  const key = createHash('sha256')
    .update(JSON.stringify([packages, finish]))
    .digest('hex')
    .slice(0, 12)
  const base = join(cache, `base-${key}`)
  if (existsSync(base)) return base
  mkdirSync(cache, { recursive: true })
  // Two labs may start at once on a fresh machine: the folder is the lock, and its owner's pid tells a dead one.
  const lock = join(cache, `base-${key}.lock`)
  while (!take(lock)) {
    await sleep(500)
    if (existsSync(base)) return base
  }
  const making = join(cache, `making-${key}`)
  try {
    rmSync(making, { recursive: true, force: true })
    const mirror = debianMirror()
    say(`Making the lab's base image with debootstrap from ${mirror.url} (once, about a minute)`)
    await must(
      'debootstrap',
      ['--variant=minbase', `--include=${packages.join(',')}`, 'bookworm', making, mirror.url],
      {
        timeoutMs: 900_000,
      },
    )
    await must('chroot', [making, '/bin/sh', '-c', finish])
    renameSync(making, base)
  } finally {
    rmSync(making, { recursive: true, force: true })
    rmSync(lock, { recursive: true, force: true })
  }
  return base
}

function take(lock: string): boolean {
  try {
    mkdirSync(lock)
    writeFileSync(join(lock, String(process.pid)), '')
    return true
  } catch {
    const owner = ownerOf(lock)
    if (owner !== null && !existsSync(`/proc/${owner}`)) rmSync(lock, { recursive: true, force: true })
    return false
  }
}

function ownerOf(lock: string): string | null {
  try {
    return readdirSync(lock)[0] ?? null
  } catch {
    return null
  }
}
