// The kernel's redirection of connections to the proxy: what is wanted (CapturePlan), and the verbs that bring a host
// there and back. docs/architecture.md, "Capture", has the drawing.

/** What the kernel shall redirect, in the words of host.json; names are resolved when it is applied. */
export interface CapturePlan {
  readonly outbound: 'mesh' | 'all' | 'off'
  /** Declared ports of local services; `closed` keeps refusing while nothing of ours is alive. */
  readonly inbound: readonly { readonly port: number; readonly onFailure: 'open' | 'closed' }[]
  readonly identities: readonly CaptureIdentity[]
  /** The user whose own connections are never captured. */
  readonly proxyUser: string
  /** Units whose own connections are never captured (the agent: its health checks must reach the application itself). */
  readonly exemptUnits: readonly string[]
  /** sshd's ports; neither inbound nor outbound are they ever captured. */
  readonly sshPorts: readonly number[]
  readonly excludePorts: readonly number[]
  readonly excludeCidrs: readonly string[]
}

export interface CaptureIdentity {
  /** 15101… */
  readonly capturePort: number
  /** A systemd unit (service, slice or scope), or a user name; neither: nobody calls out as it. */
  readonly unit: string | null
  readonly user: string | null
}
