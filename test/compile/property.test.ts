// The same mesh in any order gives the same bytes.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { compile } from '../../src/compile/compile.ts'
import type { MeshInstance } from '../../src/model/instance.ts'
import { protocols } from '../../src/model/protocol.ts'
import type { Core } from '../../src/proxy/core.ts'
import { Keep } from '../../src/proxy/keep.ts'
import { link } from '../../src/proxy/link.ts'
import { isOpaque } from '../../src/snapshot/types.ts'
import { destinationRule, input, instance, subsets, virtualService } from './mesh.ts'

const services = ['web', 'api', 'db']

const anyInstance: fc.Arbitrary<MeshInstance> = fc
  .record({
    service: fc.constantFrom(...services),
    namespace: fc.constantFrom('default', 'shop'),
    host: fc.constantFrom('vm1', 'vm2', 'vm3'),
    port: fc.constantFrom(80, 8080),
    version: fc.constantFrom('v1', 'v2'),
    protocol: fc.constantFrom(...protocols),
    passing: fc.boolean(),
  })
  .map(({ service, host, ...over }) => instance(service, host, { ...over, servicePort: over.port }))

const anyResource: fc.Arbitrary<object> = fc
  .record({
    name: fc.constantFrom('a', 'b', 'c'),
    namespace: fc.constantFrom('default', 'shop'),
    host: fc.constantFrom(...services, 'web.shop', 'ghost', '*'),
    kind: fc.constantFrom('route', 'tcp', 'tls', 'rule', 'junk'),
    weight: fc.integer({ min: 0, max: 100 }),
  })
  .map(({ name, namespace, host, kind, weight }) => {
    const route = [
      { destination: { host, subset: 'v1' }, weight },
      { destination: { host, subset: 'v2' }, weight: 100 - weight },
    ]
    if (kind === 'route') return virtualService(name, { hosts: [host], http: [{ route }] }, namespace)
    if (kind === 'tcp') return virtualService(name, { hosts: [host], tcp: [{ route }] }, namespace)
    if (kind === 'tls') {
      const match = [{ sniHosts: [`${name}.test`, '*.test'] }]
      return virtualService(name, { hosts: [host], tls: [{ match, route }] }, namespace)
    }
    if (kind === 'rule') return destinationRule(name, { host, subsets }, namespace)
    return { kind: 'VirtualService', metadata: { name, namespace }, spec: { hosts: [host], [name]: weight } }
  })

const anyMesh = fc.record({
  instances: fc.array(anyInstance, { maxLength: 12 }),
  resources: fc.array(anyResource, { maxLength: 8 }),
  vips: fc.uniqueArray(
    fc.record({
      service: fc.constantFrom(...services),
      namespace: fc.constant('default'),
      address: fc.integer({ min: 1, max: 250 }).map((low) => `240.240.0.${low}`),
    }),
    { selector: (vip) => vip.address, maxLength: 4 },
  ),
})

const shuffle = <T>(list: readonly T[], seed: number): T[] =>
  list
    .map((value, at) => ({ value, key: Math.imul(at + 1, 2654435761) ^ Math.imul(seed, 40503) }))
    .toSorted((a, b) => a.key - b.key)
    .map(({ value }) => value)

test('shuffled input gives the same bytes', () => {
  fc.assert(
    fc.property(anyMesh, fc.integer(), (mesh, seed) => {
      const one = compile(input(mesh))
      const two = compile(
        input({
          instances: shuffle(mesh.instances, seed),
          resources: shuffle(mesh.resources, seed),
          vips: shuffle(mesh.vips, seed),
        }),
      )
      assert.equal(JSON.stringify(two), JSON.stringify(one))
    }),
    { numRuns: 300 },
  )
})

test('every cluster that is referred to exists, and the real proxy links every snapshot', () => {
  fc.assert(
    fc.property(anyMesh, (mesh) => {
      const { snapshot } = compile(input(mesh))
      assert.ok(link({} as Core, new Keep(), snapshot, null).live.snapshot === snapshot)
      for (const { ports } of snapshot.outbound) {
        for (const port of ports) {
          const rules = [...port.routes, ...(port.tlsRoutes ?? [])]
          const weights = [...port.tcp, ...rules.flatMap((route) => route.clusters)]
          assert.ok(
            weights.every(({ cluster, weight }) => snapshot.clusters[cluster] !== undefined && weight > 0),
          )
          if (!isOpaque(port.protocol)) assert.ok(port.routes.length > 0)
        }
      }
    }),
    { numRuns: 200 },
  )
})
