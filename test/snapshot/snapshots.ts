// Any snapshots, of few names, so that two of them have much in common; and many endpoints as a large mesh has them.
import fc from 'fast-check'
import { snapshotHash } from '../../src/snapshot/hash.ts'
import type { Snapshot } from '../../src/snapshot/types.ts'

const part = fc.record({ cluster: fc.integer({ min: -1, max: 5 }), weight: fc.nat({ max: 2 }) })
const parts = fc.array(part, { maxLength: 2 })
const text = fc.constantFrom('exact', 'prefix', 'regex', 'present')
const match = fc.record({ path: fc.option(fc.record({ kind: text, value: fc.constantFrom('/a', '/b') })) })
const route = fc.record({
  name: fc.constantFrom('a', 'b', 'c', '__proto__', 'constructor'),
  matches: fc.array(match, { maxLength: 2 }),
  clusters: parts,
  timeout: fc.nat({ max: 2 }),
})
const port = fc.record(
  {
    port: fc.constantFrom(80, 8080),
    protocol: fc.constantFrom('http', 'tcp'),
    instances: fc.array(fc.constantFrom('10.0.0.1:1', '10.0.0.2:1', '10.0.0.3:1'), { maxLength: 3 }),
    routes: fc.array(route, { maxLength: 4 }),
    tlsRoutes: fc.array(fc.record({ sniHosts: fc.constant(['a']), clusters: parts }), { maxLength: 2 }),
    tcp: parts,
  },
  { requiredKeys: ['port', 'protocol', 'instances', 'routes', 'tcp'] },
)
const service = fc.record({
  fqdn: fc.constantFrom('a.mesh', 'b.mesh', 'c.mesh', 'd.mesh'),
  vip: fc.constantFrom('', '240.240.0.1'),
  ports: fc.array(port, { maxLength: 2 }),
})
const endpoint = fc.record({
  address: fc.constantFrom('10.0.0.1', '10.0.0.2', '10.0.0.3'),
  port: fc.constantFrom(1, 2),
  weight: fc.nat({ max: 1 }),
})
const cluster = fc.record({
  name: fc.constantFrom('a', 'b', 'c', 'd', 'e', '__proto__'),
  maxPending: fc.nat({ max: 1 }),
  endpoints: fc.array(endpoint, { maxLength: 4 }),
})

/** Without a care for what could be linked: names come twice, and clusters that are not there are referred to. */
export const anySnapshot: fc.Arbitrary<Snapshot> = fc
  .record(
    {
      schema: fc.constant(1),
      host: fc.constantFrom('vm1', 'vm2'),
      outbound: fc.array(service, { maxLength: 4 }),
      clusters: fc.array(cluster, { maxLength: 5 }),
      inbound: fc.array(fc.record({ port: fc.nat({ max: 2 }) }), { maxLength: 2 }),
      settings: fc.dictionary(fc.constantFrom('a', '__proto__', 'hash'), fc.nat({ max: 1 })),
      mesh: fc.constantFrom('x', 'y'),
    },
    { requiredKeys: ['schema', 'host', 'outbound', 'clusters'] },
  )
  .map((draft) => {
    // As read: what comes from JSON has own members of any name.
    const snapshot = JSON.parse(JSON.stringify({ ...draft, hash: '' })) as Snapshot
    return { ...snapshot, hash: snapshotHash(snapshot) }
  })
