// Where everything of ours lies on a host, and the fixed ports. `prefix` is '' on a real host and a folder in tests.

/** Fixed ports, Istio's where it has one (https://istio.io/latest/docs/ops/deployment/application-requirements/). */
export const ports = {
  /** Outbound capture for callers that belong to no declared service (they speak as the host). */
  outbound: 15001,
  inbound: 15006,
  /** mTLS between hosts. */
  link: 15008,
  /** The signer of the control process (mTLS). */
  signer: 15012,
  /** The embedded registry (TLS, Consul HTTP API). */
  registry: 15011,
  dns: 15053,
  health: 15021,
  prometheus: 15090,
  /** Outbound capture of the n-th local identity is `identity + n`. */
  identity: 15100,
} as const

/** How many services with an identity of their own one host may have (the socket unit holds a port for each). */
export const maxIdentities = 32

/** The unprivileged users that run the proxy and control. */
export const users = { proxy: 'meshctl-proxy', control: 'meshctl-control' } as const

export const units = {
  agent: 'meshctl-agent.service',
  agentSocket: 'meshctl-agent.socket',
  proxy: 'meshctl-proxy.service',
  proxySocket: 'meshctl-proxy.socket',
  control: 'meshctl-control.service',
  /** One .timer and one .service of each name: renew, verify, report. */
  timers: ['meshctl-renew', 'meshctl-verify', 'meshctl-report'],
} as const

export interface Paths {
  /** Runtimes and releases, by content hash; `current` is a link to the release in use. */
  readonly opt: string
  readonly current: string
  /** The `meshctl` command on the host. */
  readonly command: string
  readonly etc: string
  /** HostConfig (model/host.ts), 0600. */
  readonly hostConfig: string
  /** Certificate bundle of the mesh's roots, PEM. */
  readonly roots: string
  readonly lib: string
  /** The agent's keys and leafs, 0700 root. */
  readonly identity: string
  /** The agent's last good view of the registry, and what it needs to boot alone. */
  readonly state: string
  /** Owned by the proxy's user, 0700: last good snapshot.json and secrets.json (0600). */
  readonly proxyState: string
  /** What join changed and how the host was before; undo.sh. */
  readonly journal: string
  readonly run: string
  /** The proxy supervisor's control socket: the agent pushes snapshots and secrets here. */
  readonly proxySocket: string
  /** The agent's control socket for the one-shot verbs on the host. */
  readonly agentSocket: string
  readonly logs: string
  readonly accessLog: string
  readonly systemd: string
  /** State of `meshctl control` on the control host. */
  readonly control: string
}

export function pathsUnder(prefix: string = ''): Paths {
  return {
    opt: `${prefix}/opt/meshctl`,
    current: `${prefix}/opt/meshctl/current`,
    command: `${prefix}/usr/local/bin/meshctl`,
    etc: `${prefix}/etc/meshctl`,
    hostConfig: `${prefix}/etc/meshctl/host.json`,
    roots: `${prefix}/etc/meshctl/roots.pem`,
    lib: `${prefix}/var/lib/meshctl`,
    identity: `${prefix}/var/lib/meshctl/identity`,
    state: `${prefix}/var/lib/meshctl/state`,
    proxyState: `${prefix}/var/lib/meshctl/proxy`,
    journal: `${prefix}/var/lib/meshctl/journal`,
    run: `${prefix}/run/meshctl`,
    proxySocket: `${prefix}/run/meshctl/proxy/proxy.sock`,
    agentSocket: `${prefix}/run/meshctl/agent.sock`,
    logs: `${prefix}/var/log/meshctl`,
    accessLog: `${prefix}/var/log/meshctl/access.log`,
    systemd: `${prefix}/etc/systemd/system`,
    control: `${prefix}/var/lib/meshctl-control`,
  }
}
