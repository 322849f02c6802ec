// The few shell command lines by which every kind of host writes and reads files. POSIX sh and coreutils.
import { quote } from './host.ts'

/**
 * Standard input → file: a temporary file beside it, mode and owner set, flushed, compared with the expected SHA-256
 * (null: not compared), renamed. Nothing is left when the input breaks off in the middle of a compared file.
 */
export function putCommand(
  path: string,
  options: { mode?: number | undefined; owner?: string | undefined; sha256?: string | null },
): string {
  const folder = path.slice(0, path.lastIndexOf('/')) || '/'
  const steps = [
    'umask 077',
    `t=$(mktemp ${quote(`${folder}/.meshctl.XXXXXX`)}) || exit 1`,
    `trap 'rm -f "$t"' EXIT HUP INT TERM`,
    'cat > "$t" || exit 1',
  ]
  if (options.sha256 !== undefined && options.sha256 !== null) {
    steps.push(
      `[ "$(sha256sum < "$t" | cut -d' ' -f1)" = ${options.sha256} ] || { echo 'checksum differs after transfer' >&2; exit 1; }`,
    )
  }
  steps.push(`chmod ${(options.mode ?? 0o644).toString(8).padStart(4, '0')} "$t" || exit 1`)
  if (options.owner !== undefined) steps.push(`chown ${quote(options.owner)} "$t" || exit 1`)
  steps.push('sync "$t" || exit 1', `mv -f "$t" ${quote(path)}`)
  return steps.join('; ')
}

/** File → base64 on standard output; status 44 where there is none. */
export function getCommand(path: string): string {
  return `[ -e ${quote(path)} ] || exit 44; base64 < ${quote(path)}`
}

export const absent = 44

/** A command line run by sudo; with a password sudo reads its first line from standard input. */
export function sudo(command: string, password: boolean): string {
  return password ? `sudo -S -k -p '' -- sh -c ${quote(command)}` : `sudo -n -- sh -c ${quote(command)}`
}
