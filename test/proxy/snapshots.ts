// Snapshots for tests of the proxy's shell.
import { snapshotHash } from '../../src/snapshot/hash.ts'
import type { Snapshot } from '../../src/snapshot/types.ts'

export function emptySnapshot(host: string, more: Partial<Snapshot> = {}): Snapshot {
  const snapshot: Snapshot = {
    schema: 1,
    hash: '',
    host,
    mesh: 'test',
    trustDomain: 'mesh.test',
    identities: [
      {
        spiffe: `spiffe://mesh.test/host/${host}`,
        service: '',
        namespace: '',
        version: '',
        capturePort: 15001,
      },
    ],
    inbound: [],
    outbound: [],
    clusters: [],
    settings: {
      maxHeadBytes: 65536,
      maxHeaders: 100,
      headTimeout: 10_000,
      idleTimeout: 60_000,
      drainTimeout: 2_000,
      accessLog: true,
      unknownDestinations: 'refuse',
    },
    ...more,
  }
  return { ...snapshot, hash: snapshotHash(snapshot) }
}
