// The verbs, in the order and groups of `meshctl --help`. Only the verb in use is loaded.
import type { CommandModule } from './cli.ts'

export interface Verb {
  readonly name: string
  readonly aliases?: readonly string[]
  readonly group: string
  readonly summary: string
  /** Not shown in the help. */
  readonly hidden?: boolean
  load(): Promise<CommandModule>
}

const mesh = 'Mesh and hosts:'
const traffic = 'Services and traffic:'
const look = 'Look and mend:'
const parts = 'On a host (units and timers run these):'
const other = 'Other:'

export const verbs: readonly Verb[] = [
  {
    name: 'init',
    group: mesh,
    summary: 'make a mesh: CA, control, registry',
    load: () => import('./command/init.ts'),
  },
  {
    name: 'join',
    group: mesh,
    summary: 'put hosts into the mesh over SSH',
    load: () => import('./command/join.ts'),
  },
  {
    name: 'leave',
    group: mesh,
    summary: 'take hosts out, as they were before',
    load: () => import('./command/leave.ts'),
  },
  {
    name: 'context',
    group: mesh,
    summary: 'choose between meshes',
    load: () => import('./command/context.ts'),
  },
  {
    name: 'service',
    aliases: ['services'],
    group: traffic,
    summary: 'services, versions and their health',
    load: () => import('./command/service.ts'),
  },
  {
    name: 'route',
    aliases: ['routes'],
    group: traffic,
    summary: 'split, match, timeouts, retries',
    load: () => import('./command/route.ts'),
  },
  {
    name: 'apply',
    group: traffic,
    summary: "write Istio's objects from files",
    load: () => import('./command/apply.ts'),
  },
  { name: 'get', group: traffic, summary: 'print objects', load: () => import('./command/get.ts') },
  { name: 'delete', group: traffic, summary: 'delete objects', load: () => import('./command/delete.ts') },
  {
    name: 'status',
    group: look,
    summary: 'control, registry, hosts',
    load: () => import('./command/status.ts'),
  },
  {
    name: 'check',
    group: look,
    summary: 'find what is wrong, with a hint per finding',
    load: () => import('./command/check.ts'),
  },
  {
    name: 'cert',
    group: look,
    summary: 'certificates and how long they last',
    load: () => import('./command/cert.ts'),
  },
  { name: 'logs', group: look, summary: 'logs of a host', load: () => import('./command/logs.ts') },
  {
    name: 'explain',
    group: look,
    summary: 'what an error code means',
    load: () => import('./command/explain.ts'),
  },
  {
    name: 'agent',
    group: parts,
    summary: 'run, renew, verify, report',
    load: () => import('./command/part.ts'),
  },
  { name: 'proxy', group: parts, summary: 'the data plane', load: () => import('./command/part.ts') },
  {
    name: 'control',
    group: parts,
    summary: 'signer and embedded registry',
    load: () => import('./command/part.ts'),
  },
  {
    name: 'completion',
    group: other,
    summary: 'for bash, zsh, fish',
    load: () => import('./command/completion.ts'),
  },
  {
    name: 'version',
    group: other,
    summary: 'of this command and of control',
    load: () => import('./command/version.ts'),
  },
  {
    name: '__complete',
    group: other,
    summary: '',
    hidden: true,
    load: () => import('./command/complete.ts'),
  },
]
