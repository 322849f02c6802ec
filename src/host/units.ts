// Systemd units whose processes speak as a service: where their cgroup is, and the drop-in that renews the capture
// rule in the new cgroup at each start (the kernel resolves a cgroup's path once, when the rule is inserted).
import { pathsUnder } from '../paths.ts'
import { quote, type Host } from './host.ts'
import { must } from './local.ts'

export interface UnitState {
  readonly unit: string
  /** In the v2 hierarchy, no slash in front; where it is or, while the unit is stopped, where it will be. */
  readonly cgroup: string
  /** The cgroup exists now. */
  readonly present: boolean
}

const paths = pathsUnder()

/** Folder of the rule files that drop-ins feed to iptables-restore. */
export const ruleFolder = `${paths.run}/capture`

const roots = ['/sys/fs/cgroup/unified', '/sys/fs/cgroup']

/** `web` → `web.service`; a full unit name stays. */
export function unitName(unit: string): string {
  return /\.(service|slice|scope)$/.test(unit) ? unit : `${unit}.service`
}

/** Where the cgroups of units are. One command for all. */
export async function unitStates(host: Host, units: readonly string[]): Promise<UnitState[]> {
  if (units.length === 0) return []
  const names = [...new Set(units.map(unitName))]
  for (const name of names)
    if (!/^[\w@.:\\-]+$/.test(name)) throw new Error(`bad unit name ${JSON.stringify(name)}`)
  const script = names
    .map(
      (name) =>
        `echo "@@${name.replaceAll('\\', '\\\\')}"; systemctl show -p ControlGroup -p Slice -- '${name}' 2>/dev/null`,
    )
    .join('\n')
  const shown = (await host.run(script, { root: true })).stdout
  const found = names.map((name) => {
    const part = shown.split('@@').find((text) => text.startsWith(`${name}\n`)) ?? ''
    const group = /^ControlGroup=\/?(.*)$/m.exec(part)?.[1] ?? ''
    const slice = /^Slice=(.*)$/m.exec(part)?.[1] ?? ''
    return { unit: name, cgroup: group === '' ? defaultCgroup(name, slice) : group }
  })
  const test = found
    .map(
      ({ cgroup }) =>
        `if ${roots.map((root) => `[ -f '${root}/${cgroup}/cgroup.procs' ]`).join(' || ')}; then echo yes; else echo no; fi`,
    )
    .join('\n')
  const answers = (await host.run(test, { root: true })).stdout.trim().split('\n')
  return found.map((one, at) => ({ ...one, present: answers[at] === 'yes' }))
}

/** Where systemd puts a unit that does not say otherwise. */
export function defaultCgroup(unit: string, slice: string = ''): string {
  if (unit.endsWith('.slice')) return slicePath(unit)
  const parent = slice === '' ? 'system.slice' : slice
  return `${slicePath(parent)}/${unit}`
}

/** `a-b.slice` lies in `a.slice`. */
function slicePath(slice: string): string {
  const words = slice.replace(/\.slice$/, '').split('-')
  return words.map((_, at) => `${words.slice(0, at + 1).join('-')}.slice`).join('/')
}

/** The rule file of a unit and family, read by its drop-in. */
export function ruleFile(unit: string, family: 4 | 6): string {
  return `${ruleFolder}/${unitName(unit)}.v${family}`
}

/** A unit's drop-in; null for slices and scopes, which start no program of their own. */
export function dropInPath(unit: string): string | null {
  const name = unitName(unit)
  return name.endsWith('.service') ? `${paths.systemd}/${name}.d/50-meshctl.conf` : null
}

/**
 * `-`: a failure never keeps the service from starting; `+`: as root. Without the rule files (capture off, agent not up
 * yet after a boot) it does nothing.
 */
export function dropInText(unit: string, sbin: string = '/usr/sbin'): string {
  const line = (family: 4 | 6): string => {
    const file = ruleFile(unit, family).replaceAll('%', '%%')
    const program = `${sbin}/${family === 4 ? 'iptables' : 'ip6tables'}-restore`
    return `ExecStartPre=-+/bin/sh -c '[ ! -e "${file}" ] || exec ${program} -w 5 --noflush "${file}"'`
  }
  return `# meshctl: renews the capture rule of this unit in its new cgroup\n[Service]\n${line(4)}\n${line(6)}\n`
}

/** Puts the drop-ins of these units in place and removes ours from all others; reloads systemd when one changed. */
export async function syncDropIns(host: Host, units: readonly string[]): Promise<boolean> {
  const restore = (
    await must(host, 'find iptables-restore', 'PATH=$PATH:/usr/sbin:/sbin; command -v iptables-restore')
  ).trim()
  const sbin = restore.slice(0, restore.lastIndexOf('/'))
  const wanted = new Map<string, string>()
  for (const unit of units) {
    const path = dropInPath(unit)
    if (path !== null) wanted.set(path, dropInText(unit, sbin))
  }
  const listed = await host.run(`ls -d ${paths.systemd}/*.d/50-meshctl.conf 2>/dev/null`, { root: true })
  const there = listed.stdout.split('\n').filter((line) => line !== '')
  let changed = false
  for (const [path, text] of wanted) {
    if ((await host.get(path, { root: true }))?.toString() === text) continue
    // Folders that are ours are written down, so that undo removes those and no others.
    const folder = quote(path.slice(0, path.lastIndexOf('/')))
    const noted = `mkdir -p ${folder} ${paths.journal} && echo ${folder} >> ${paths.journal}/folders`
    await must(host, `make ${folder}`, `[ -d ${folder} ] || { ${noted}; }`)
    await host.put(path, text, { mode: 0o644 })
    changed = true
  }
  for (const path of there) {
    if (wanted.has(path)) continue
    await must(
      host,
      `remove ${path}`,
      `rm -f ${quote(path)}; folder=${quote(path.slice(0, path.lastIndexOf('/')))}; ` +
        `if grep -qxF "$folder" ${paths.journal}/folders 2>/dev/null; then rmdir "$folder" 2>/dev/null; fi; true`,
    )
    changed = true
  }
  if (changed) await must(host, 'reload systemd', 'systemctl daemon-reload')
  return changed
}
