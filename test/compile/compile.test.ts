import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { compile } from '../../src/compile/compile.ts'
import type { CompileInput } from '../../src/compile/input.ts'
import type { Route, Snapshot } from '../../src/snapshot/types.ts'
import { snapshotHash } from '../../src/snapshot/hash.ts'
import { declared, destinationRule, hostConfig, input, instance, subsets, virtualService } from './mesh.ts'

const web = [instance('web', 'vm1'), instance('web', 'vm2', { version: 'v2' })]
const to = (host: string, subset?: string, weight?: number): object => ({
  destination: { host, ...(subset === undefined ? {} : { subset }) },
  ...(weight === undefined ? {} : { weight }),
})
const rule = destinationRule('web', { host: 'web', subsets })

function routes(snapshot: Snapshot, service: string = 'web', port: number = 8080): readonly Route[] {
  const found = snapshot.outbound.find((outbound) => outbound.service === service)
  return found?.ports.find((candidate) => candidate.port === port)?.routes ?? []
}

function compiled(over: Partial<CompileInput>): { snapshot: Snapshot; messages: string[] } {
  const { snapshot, problems } = compile(input(over))
  return { snapshot, messages: problems.map(({ where, message }) => `${where}: ${message}`) }
}

describe('clusters', () => {
  test('unhealthy endpoints are left out, all unhealthy leaves none, their addresses stay captured', () => {
    const one = compiled({
      instances: [web[0] ?? assert.fail(), { ...(web[1] ?? assert.fail()), passing: false }],
    })
    assert.deepEqual(
      one.snapshot.clusters[0]?.endpoints.map((endpoint) => endpoint.host),
      ['vm1'],
    )
    const none = compiled({ instances: web.map((each) => ({ ...each, passing: false })) })
    assert.deepEqual(none.snapshot.clusters[0]?.endpoints, [])
    assert.deepEqual(none.snapshot.outbound[0]?.ports[0]?.instances, ['10.0.0.1:8080', '10.0.0.2:8080'])
  })

  test('a failing local check counts before the registry says so', () => {
    const config = hostConfig({ services: [declared('web')] })
    const local = [{ id: 'web', address: '127.0.0.1', healthy: false }]
    const { snapshot } = compiled({ config, local, instances: web })
    assert.deepEqual(
      snapshot.clusters[0]?.endpoints.map((endpoint) => endpoint.host),
      ['vm2'],
    )
  })

  test('a subset without instances or without a rule is kept empty; the latter is reported', () => {
    const spec = { hosts: ['web'], http: [{ route: [to('web', 'v1', 50), to('web', 'v9', 50)] }] }
    const { snapshot, messages } = compiled({
      instances: web,
      resources: [virtualService('web', spec), rule],
    })
    const [, v9] = routes(snapshot)[0]?.clusters ?? []
    assert.deepEqual(snapshot.clusters[v9?.cluster ?? -1]?.endpoints, [])
    assert.deepEqual(messages, [
      'VirtualService default/web: spec.http[0].route[1].destination.subset v9 of web.default is in no DestinationRule',
    ])
  })

  test('a policy block of a subset replaces the same block of the service', () => {
    const policy = destinationRule('web', {
      host: 'web',
      trafficPolicy: {
        loadBalancer: { simple: 'ROUND_ROBIN' },
        connectionPool: {
          tcp: { maxConnections: 7, connectTimeout: '1s' },
          http: { http1MaxPendingRequests: 9 },
        },
        outlierDetection: { consecutive5xxErrors: 3, baseEjectionTime: '1m', maxEjectionPercent: 50 },
      },
      subsets: [
        { name: 'v1', labels: { version: 'v1' }, trafficPolicy: { loadBalancer: { simple: 'RANDOM' } } },
      ],
    })
    const spec = { hosts: ['web'], http: [{ route: [to('web', 'v1')] }] }
    const { snapshot } = compiled({ instances: web, resources: [policy, virtualService('web', spec)] })
    const [cluster] = snapshot.clusters
    assert.equal(cluster?.balancer, 'random')
    assert.deepEqual([cluster.maxConnections, cluster.connectTimeout, cluster.maxPending], [7, 1000, 9])
    assert.deepEqual(cluster.outlier, { consecutiveErrors: 3, baseEjection: 60_000, maxEjectionPercent: 50 })
  })

  test('several rules of one service add up their subsets', () => {
    const resources = [
      destinationRule('a', { host: 'web', subsets: subsets.slice(0, 1) }),
      destinationRule('b', {
        host: 'web',
        subsets: subsets.slice(1),
        trafficPolicy: { loadBalancer: { simple: 'RANDOM' } },
      }),
      virtualService('web', { hosts: ['web'], http: [{ route: [to('web', 'v1', 1), to('web', 'v2', 1)] }] }),
    ]
    const { snapshot, messages } = compiled({ instances: web, resources })
    assert.deepEqual(messages, [])
    assert.deepEqual(
      snapshot.clusters.map((cluster) => cluster.balancer),
      ['random', 'random'],
    )
  })

  test('an instance on a host without meshctl is reached plainly', () => {
    const { snapshot } = compiled({ instances: [instance('web', 'vm9', { linkPort: null })] })
    assert.deepEqual(
      snapshot.clusters[0]?.endpoints.map(({ via, linkPort }) => [via, linkPort]),
      [['plain', 0]],
    )
  })
})

describe('this host', () => {
  test('identities: the host, then services in order of declaration; versions have ports of their own', () => {
    const services = [
      declared('web'),
      declared('api', { id: 'api', port: 9000, servicePort: 9000 }),
      declared('web', { id: 'web-admin', port: 8081, servicePort: 8081 }),
      declared('web', { id: 'batch', port: 8083, servicePort: 8083, unit: null, user: 'batch' }),
      declared('web', { id: 'web2', port: 8082, servicePort: 8082, meta: { version: 'v2' } }),
    ]
    const { snapshot, messages } = compiled({ config: hostConfig({ services }) })
    assert.deepEqual(messages, [])
    assert.deepEqual(
      snapshot.identities.map(({ spiffe, version, capturePort }) => [spiffe, version, capturePort]),
      [
        ['spiffe://demo.mesh/host/vm1', '', 15001],
        ['spiffe://demo.mesh/ns/default/sa/web', 'v1', 15101],
        ['spiffe://demo.mesh/ns/default/sa/api', 'v1', 15102],
        ['spiffe://demo.mesh/ns/default/sa/web', 'v1', 15103],
        ['spiffe://demo.mesh/ns/default/sa/web', 'v2', 15104],
      ],
    )
    assert.deepEqual(
      snapshot.inbound.map(({ port, identity }) => [port, identity]),
      [
        [8080, 1],
        [9000, 2],
        [8081, 1],
        [8083, 3],
        [8082, 4],
      ],
    )
  })

  test('a PROXY header is never sent where callers share connections', () => {
    const services = [
      declared('a', { port: 1, protocol: 'tcp', proxyProtocol: 'both' }),
      declared('b', { port: 2, protocol: 'http', proxyProtocol: 'both' }),
      declared('c', { port: 3, protocol: 'tcp' }),
    ]
    const { snapshot } = compile(input({ config: hostConfig({ services }) }))
    assert.deepEqual(
      snapshot.inbound.map(({ proxyProtocol }) => proxyProtocol),
      [{ accept: true, send: true }, { accept: true, send: false }, undefined],
    )
  })

  test('inbound goes where the application listens', () => {
    const services = [declared('web', { mtls: 'strict', servicePort: 80 })]
    const local = [{ id: 'web', address: '::1', healthy: true }]
    const { snapshot } = compiled({ config: hostConfig({ services }), local })
    assert.deepEqual(
      snapshot.inbound.map(({ address, port, mtls, serverName }) => [address, port, mtls, serverName]),
      [['::1', 8080, 'strict', 'outbound_.80_._.web.default.mesh']],
    )
  })

  test('more services than capture ports: the rest is left out and named', () => {
    const services = Array.from({ length: 34 }, (_, at) =>
      declared(`s${at}`, { id: `s${at}`, port: 1000 + at }),
    )
    const { snapshot, messages } = compiled({ config: hostConfig({ services }) })
    assert.equal(snapshot.identities.length, 33)
    assert.equal(snapshot.identities.at(-1)?.capturePort, 15132)
    assert.equal(messages.length, 2)
    assert.match(messages[0] ?? '', /s32\.default: left out/)
  })
})

describe('the snapshot', () => {
  test('broken resources are left out one by one', () => {
    const good = virtualService('web', { hosts: ['web'], http: [{ name: 'good', route: [to('web')] }] })
    const resources = [
      good,
      null,
      'text',
      { kind: 'Gateway', metadata: { name: 'g' } },
      virtualService('mirror', { hosts: ['web'], http: [{ route: [to('web')], mirror: { host: 'x' } }] }),
      virtualService('regex', {
        hosts: ['web'],
        http: [{ match: [{ uri: { regex: '(' } }], route: [to('web')] }],
      }),
      virtualService('zero', { hosts: ['web'], http: [{ route: [to('web', 'v1', 0), to('web', 'v2', 0)] }] }),
      virtualService('slow', { hosts: ['web'], http: [{ route: [to('web')], timeout: 'soon' }] }),
      virtualService('outside', { hosts: ['*.example.com'], http: [{ route: [to('web')] }] }),
    ]
    const { snapshot, messages } = compiled({ instances: web, resources })
    assert.equal(routes(snapshot)[0]?.name, 'good')
    assert.deepEqual(
      messages,
      [
        'Gateway default/g: skipped: this kind is not honoured by this release',
        'VirtualService default/mirror: skipped: spec.http[0].mirror is not honoured by this release',
        'VirtualService default/outside: *.example.com is no service of the mesh',
        'VirtualService default/regex: skipped: spec.http[0].match[0].uri.regex cannot be read',
        'VirtualService default/slow: skipped: spec.http[0].timeout must be a duration like 2s',
        'VirtualService default/zero: skipped: spec.http[0].route has weights that sum to 0',
        'object default/?: skipped: this kind is not honoured by this release',
        'object default/?: skipped: this kind is not honoured by this release',
      ].toSorted(),
    )
  })

  test('is frozen all the way down, leaves the input alone and carries the hash of its content', () => {
    const given = input({ instances: web, resources: [rule] })
    const before = structuredClone(given)
    const { snapshot } = compile(given)
    assert.deepEqual(given, before)
    assert.ok(!Object.isFrozen(given.instances) && !Object.isFrozen(given.config))
    assert.equal(snapshotHash(snapshot), snapshot.hash)
    const walk = (value: unknown): void => {
      if (typeof value !== 'object' || value === null) return
      assert.ok(Object.isFrozen(value))
      Object.values(value).forEach(walk)
    }
    walk(snapshot)
  })

  test('a place that two services claim means the first by name', () => {
    const { snapshot } = compiled({ instances: [instance('zed', 'vm1'), instance('web', 'vm1')] })
    assert.deepEqual(
      snapshot.outbound.map(({ service, ports }) => [service, ports[0]?.instances]),
      [
        ['web', ['10.0.0.1:8080']],
        ['zed', []],
      ],
    )
  })
})
