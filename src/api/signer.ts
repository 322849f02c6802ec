// The control process's API: JSON over HTTPS on port 15012. Mutual TLS except `join`, which a single-use grant opens.
// Server and callers prove SPIFFE ids of the mesh's trust domain, never host names.

/** spiffe://<trust-domain>/control and …/operator/<name> */
export const controlSpiffe = (trustDomain: string): string => `spiffe://${trustDomain}/control`
export const operatorSpiffe = (trustDomain: string, name: string): string =>
  `spiffe://${trustDomain}/operator/${name}`

/** POST /v1/grants (operator). Records which services the host may speak for, pinned to its SSH host key. */
export interface GrantRequest {
  readonly host: string
  readonly address: string
  readonly services: readonly { readonly name: string; readonly namespace: string }[]
  /** OpenSSH public host key, `ssh-ed25519 AAAA…`; a re-join from a host with another key is refused. */
  readonly sshHostKey: string
  /** Allows a host that is known under another key to be joined anew. */
  readonly replace: boolean
}

export interface GrantReply {
  /** Single use, 256 bits, base64url. Only its hash is stored. */
  readonly grant: string
  readonly expiresAt: string
}

/** POST /v1/join (grant in the Authorization header: `Bearer <grant>`). */
export interface JoinRequest {
  readonly host: string
  /** PEM requests: the host's own first, then one per service; names are checked against the grant. */
  readonly csrs: readonly string[]
}

/** POST /v1/sign (host's leaf). Renewal: same rules as join, entitlement as recorded. */
export interface SignRequest {
  readonly csrs: readonly string[]
}

export interface SignReply {
  /** Leaf and intermediates, PEM, in the order of the requests. */
  readonly chains: readonly string[]
  readonly roots: string
  /** The host's token for the embedded registry, only in the reply to a join; null with a real Consul. */
  readonly registryToken: string | null
}

/** POST /v1/hosts/<name>/services (operator): replaces the recorded entitlement. */
export interface EntitlementRequest {
  readonly services: readonly { readonly name: string; readonly namespace: string }[]
}

/** GET /v1/hosts (operator) */
export interface HostRecord {
  readonly host: string
  readonly address: string
  readonly services: readonly { readonly name: string; readonly namespace: string }[]
  /** SHA256:… of the SSH host key. */
  readonly sshFingerprint: string
  readonly joinedAt: string
  readonly renewedAt: string
  readonly revoked: boolean
}

/** GET /v1/status (anybody with a certificate of the mesh) */
export interface ControlStatus {
  readonly version: string
  readonly mesh: string
  readonly trustDomain: string
  readonly registry: 'embedded' | 'consul'
  readonly startedAt: string
  readonly issuingNotAfter: string
  readonly rootNotAfter: string
  readonly hosts: number
}

/** GET /v1/trust (anybody with a certificate of the mesh) */
export interface TrustReply {
  /** PEM bundle. */
  readonly roots: string
}

// DELETE /v1/hosts/<name> (operator): revokes; renewals are refused from then on.
// POST /v1/operators/renew (operator): SignRequest with one CSR → SignReply.
// Errors: 4xx/5xx with ApiFault.
export interface ApiFault {
  readonly code: string
  readonly message: string
  readonly hint?: string
}

/** /var/lib/meshctl-control/control.json, written by `meshctl init` (0600). Paths are relative to that folder. */
export interface ControlConfig {
  readonly schema: 1
  readonly mesh: string
  readonly trustDomain: string
  /** Addresses and names put into control's own certificate, besides its SPIFFE id. */
  readonly names: readonly string[]
  readonly listen: string
  readonly signerPort: number
  /** The embedded registry, or null with a real Consul. */
  readonly embedded: { readonly port: number; readonly token: string } | null
  /** How control itself reaches the registry (a real Consul); null: the embedded one. */
  readonly consul: { readonly url: string; readonly token: string | null; readonly ca: string | null } | null
  /** Life of leafs, seconds (default 86,400). */
  readonly leafSeconds: number
}
// Beside it: ca/roots.pem, ca/issuing.pem (issuing certificate), ca/issuing.key (0600), state/ (SQLite files).
