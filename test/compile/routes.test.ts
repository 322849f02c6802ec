import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { compile } from '../../src/compile/compile.ts'
import type { CompileInput } from '../../src/compile/input.ts'
import type { Route, Snapshot } from '../../src/snapshot/types.ts'
import { destinationRule, input, instance, subsets, virtualService } from './mesh.ts'

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

/** `name weight` of the clusters of a route. */
function split(snapshot: Snapshot, route: Route | undefined): string[] {
  return (route?.clusters ?? []).map(({ cluster, weight }) => `${snapshot.clusters[cluster]?.name} ${weight}`)
}

function compiled(over: Partial<CompileInput>): { snapshot: Snapshot; messages: string[] } {
  const { snapshot, problems } = compile(input(over))
  return { snapshot, messages: problems.map(({ where, message }) => `${where}: ${message}`) }
}

describe('routes', () => {
  test('a service without resources has one route with safe retries and no timeout', () => {
    const { snapshot, messages } = compiled({ instances: web })
    assert.deepEqual(messages, [])
    const [only, ...more] = routes(snapshot)
    assert.equal(more.length, 0)
    assert.deepEqual(split(snapshot, only), ['outbound|8080||web.default.mesh 100'])
    assert.equal(only?.timeout, 0)
    assert.equal(only.retry.attempts, 2)
    assert.ok(!only.retry.methods.includes('POST') && !only.retry.methods.includes('PATCH'))
    assert.deepEqual(snapshot.outbound[0]?.ports[0]?.instances, ['10.0.0.1:8080', '10.0.0.2:8080'])
    assert.equal(snapshot.outbound[0].vip, '240.240.0.1')
  })

  test('weights split between subsets, a weight of 0 gets nothing', () => {
    const spec = { hosts: ['web'], http: [{ route: [to('web', 'v1', 90), to('web', 'v2', 10)] }] }
    const { snapshot, messages } = compiled({
      instances: web,
      resources: [virtualService('web', spec), rule],
    })
    assert.deepEqual(messages, [])
    assert.deepEqual(split(snapshot, routes(snapshot)[0]), [
      'outbound|8080|v1|web.default.mesh 90',
      'outbound|8080|v2|web.default.mesh 10',
    ])
    assert.deepEqual(
      snapshot.clusters.map((cluster) => [
        cluster.subset,
        cluster.endpoints.map((endpoint) => endpoint.host),
      ]),
      [
        ['', ['vm1', 'vm2']],
        ['v1', ['vm1']],
        ['v2', ['vm2']],
      ].slice(snapshot.clusters.length === 2 ? 1 : 0),
    )
    const all = { hosts: ['web'], http: [{ route: [to('web', 'v1', 100), to('web', 'v2', 0)] }] }
    const second = compiled({ instances: web, resources: [virtualService('web', all), rule] })
    assert.deepEqual(split(second.snapshot, routes(second.snapshot)[0]), [
      'outbound|8080|v1|web.default.mesh 100',
    ])
  })

  test('the only destination takes everything, whatever its weight says', () => {
    const spec = { hosts: ['web'], http: [{ route: [to('web', 'v1', 0)] }] }
    const { snapshot } = compiled({ instances: web, resources: [virtualService('web', spec), rule] })
    assert.deepEqual(split(snapshot, routes(snapshot)[0]), ['outbound|8080|v1|web.default.mesh 100'])
  })

  test('first match wins: order is kept, nothing stands behind a route that always matches', () => {
    const spec = {
      hosts: ['web'],
      http: [
        { name: 'beta', match: [{ headers: { 'X-Beta': { exact: 'yes' } } }], route: [to('web', 'v2')] },
        {
          match: [{ uri: { prefix: '/api' }, method: { exact: 'GET' } }, { uri: { regex: '/v[0-9]+/.*' } }],
          route: [to('web', 'v1')],
        },
        { match: [{ uri: { prefix: '/' } }], route: [to('web', 'v1')], timeout: '1.5s' },
        { name: 'never', route: [to('web', 'v2')] },
      ],
    }
    const { snapshot } = compiled({ instances: web, resources: [virtualService('web', spec), rule] })
    const [beta, api, rest, ...more] = routes(snapshot)
    assert.equal(more.length, 0)
    assert.equal(beta?.name, 'beta')
    assert.deepEqual(beta.matches[0]?.headers, [{ name: 'x-beta', match: { kind: 'exact', value: 'yes' } }])
    assert.equal(api?.matches.length, 2)
    assert.deepEqual(api.matches[1]?.path, { kind: 'regex', value: '/v[0-9]+/.*' })
    assert.deepEqual([rest?.matches, rest?.timeout, rest?.name], [[], 1500, 'web[2]'])
  })

  test('what no route matches has no route: nothing is added behind', () => {
    const spec = { hosts: ['web'], http: [{ match: [{ uri: { exact: '/a' } }], route: [to('web')] }] }
    const { snapshot } = compiled({ instances: web, resources: [virtualService('web', spec)] })
    assert.deepEqual(
      routes(snapshot).map(({ matches }) => matches.length),
      [1],
    )
  })

  test('a match on a port holds for that port only', () => {
    const both = [...web, instance('web', 'vm1', { port: 9090, servicePort: 9090 })]
    const spec = {
      hosts: ['web'],
      http: [
        { name: 'admin', match: [{ port: 9090 }], route: [to('web')] },
        { name: 'rest', route: [to('web')] },
      ],
    }
    const { snapshot } = compiled({ instances: both, resources: [virtualService('web', spec)] })
    assert.deepEqual(
      routes(snapshot, 'web', 8080).map((route) => route.name),
      ['rest'],
    )
    assert.deepEqual(
      routes(snapshot, 'web', 9090).map((route) => route.name),
      ['admin'],
    )
    assert.deepEqual(split(snapshot, routes(snapshot, 'web', 9090)[0]), [
      'outbound|9090||web.default.mesh 100',
    ])
  })

  test('a header match without a value asks for presence', () => {
    const spec = {
      hosts: ['web'],
      http: [{ match: [{ headers: { 'X-A': {} }, withoutHeaders: { b: {} } }], route: [to('web')] }],
    }
    const { snapshot } = compiled({ instances: web, resources: [virtualService('web', spec)] })
    const match = routes(snapshot)[0]?.matches[0]
    assert.deepEqual(match?.headers, [{ name: 'x-a', match: { kind: 'present', value: '' } }])
    assert.deepEqual(match.withoutHeaders, [{ name: 'b', match: { kind: 'present', value: '' } }])
  })

  test('retries: words, bare statuses, attempts 0, methods stay safe', () => {
    const spec = {
      hosts: ['web'],
      http: [
        { match: [{ uri: { exact: '/off' } }], route: [to('web')], retries: { attempts: 0 } },
        {
          route: [to('web')],
          retries: { attempts: 3, perTryTimeout: '250ms', retryOn: '5xx, 429,cancelled' },
        },
      ],
    }
    const { snapshot, messages } = compiled({ instances: web, resources: [virtualService('web', spec)] })
    const [off, on] = routes(snapshot)
    assert.equal(off?.retry.attempts, 0)
    assert.deepEqual(on?.retry.on, ['5xx', 'retriable-status-codes'])
    assert.deepEqual([on.retry.attempts, on.retry.perTryTimeout, on.retry.statuses], [3, 250, [429]])
    assert.ok(!on.retry.methods.includes('POST'))
    assert.deepEqual(messages, [
      'VirtualService default/web: spec.http[1].retries.retryOn cancelled is not honoured by this release',
    ])
  })

  test('a route may lead to another service and its only port', () => {
    const spec = { hosts: ['web'], http: [{ route: [to('api.shop')] }] }
    const api = instance('api', 'vm3', { namespace: 'shop', port: 7000, servicePort: 7000 })
    const { snapshot, messages } = compiled({
      instances: [...web, api],
      resources: [virtualService('web', spec)],
    })
    assert.deepEqual(messages, [])
    const cluster = snapshot.clusters[routes(snapshot)[0]?.clusters[0]?.cluster ?? -1]
    assert.equal(cluster?.name, 'outbound|7000||api.shop.mesh')
    assert.equal(cluster.spiffe, 'spiffe://demo.mesh/ns/shop/sa/api')
    assert.equal(cluster.serverName, 'outbound_.7000_._.api.shop.mesh')
  })

  test('short names lie in the namespace of the resource; other forms name the same service', () => {
    const shop = instance('web', 'vm4', { namespace: 'shop' })
    for (const host of ['web', 'web.shop', 'web.shop.mesh']) {
      const resource = virtualService(
        'web',
        { hosts: [host], http: [{ name: 'mine', route: [to('web')] }] },
        'shop',
      )
      const { snapshot } = compiled({ instances: [...web, shop], resources: [resource] })
      const found = snapshot.outbound.find((outbound) => outbound.namespace === 'shop')
      assert.equal(found?.ports[0]?.routes[0]?.name, 'mine', host)
      assert.equal(routes(snapshot)[0]?.name, 'default', host)
    }
    const consul = virtualService('web', {
      hosts: ['web.service.consul'],
      http: [{ name: 'mine', route: [to('web')] }],
    })
    assert.equal(routes(compiled({ instances: web, resources: [consul] }).snapshot)[0]?.name, 'mine')
  })

  test('two VirtualServices for one service: the one in its own namespace wins and the other is reported', () => {
    const foreign = virtualService(
      'a',
      { hosts: ['web.default'], http: [{ name: 'foreign', route: [to('web.default')] }] },
      'aaa',
    )
    const own = virtualService('z', { hosts: ['web'], http: [{ name: 'own', route: [to('web')] }] })
    const { snapshot, messages } = compiled({ instances: web, resources: [foreign, own] })
    assert.equal(routes(snapshot)[0]?.name, 'own')
    assert.deepEqual(messages, [
      'VirtualService aaa/a: ignored for web.default: VirtualService default/z routes it',
    ])
  })

  test('tcp: routes by port, otherwise the whole service; http has none', () => {
    const db = [instance('db', 'vm1', { protocol: 'tcp', port: 5432, servicePort: 5432 })]
    const spec = {
      hosts: ['db'],
      tcp: [{ match: [{ port: 5432 }], route: [to('db', 'v1', 1), to('db', 'v2', 3)] }],
    }
    const subset = destinationRule('db', { host: 'db', subsets })
    const { snapshot } = compiled({ instances: db, resources: [virtualService('db', spec), subset] })
    const port = snapshot.outbound.find((outbound) => outbound.service === 'db')?.ports[0]
    assert.deepEqual(port?.routes, [])
    assert.deepEqual(
      port.tcp.map(({ weight }) => weight),
      [1, 3],
    )
    assert.deepEqual(compiled({ instances: web }).snapshot.outbound[0]?.ports[0]?.tcp, [])
    const sniffed = compiled({ instances: [instance('web', 'vm1', { protocol: 'auto' })] }).snapshot
    assert.equal(sniffed.outbound[0]?.ports[0]?.tcp.length, 1)
    assert.equal(sniffed.outbound[0].ports[0].routes.length, 1)
  })

  test('tls: rules by server name, in order and lower case; what they do not name goes nowhere', () => {
    const db = [instance('db', 'vm1', { protocol: 'tls', port: 5433, servicePort: 5433 })]
    const spec = {
      hosts: ['db'],
      tls: [
        { match: [{ sniHosts: ['One.test', 'one.test', '*.two.test'] }], route: [to('db', 'v1', 1), to('db', 'v2', 3)] },
        { match: [{ sniHosts: ['*'], port: 1 }, { sniHosts: ['*'], port: 5433 }], route: [to('db')] },
        { match: [{ sniHosts: ['x.test'], port: 1 }], route: [to('ghost')] },
      ],
      tcp: [{ route: [to('ghost')] }],
    } // prettier-ignore
    const resources = [virtualService('db', spec), destinationRule('db', { host: 'db', subsets })]
    const { snapshot, messages } = compiled({ instances: db, resources })
    const [port] = snapshot.outbound.find((outbound) => outbound.service === 'db')?.ports ?? []
    assert.deepEqual(messages, [])
    assert.deepEqual([port?.routes, port?.tcp], [[], []])
    const named = port?.tlsRoutes?.map(({ sniHosts, clusters }) => [
      sniHosts.join(),
      clusters.map(({ cluster, weight }) => `${snapshot.clusters[cluster]?.subset} ${weight}`),
    ])
    assert.deepEqual(named, [
      ['one.test,*.two.test', ['v1 1', 'v2 3']],
      ['*', [' 100']],
    ])
    // Without rules it is opaque. No rule by port is no rule.
    const plain = compiled({ instances: db }).snapshot.outbound[0]?.ports[0]
    assert.deepEqual([plain?.tlsRoutes, plain?.tcp.length], [undefined, 1])
  })

  test('tls rules are for ports declared as tls, and sniffed ones, which keep their other ways', () => {
    const spec = { hosts: ['web'], tls: [{ match: [{ sniHosts: ['a.test'] }], route: [to('web')] }] }
    const resources = [virtualService('web', spec)]
    const sniffed = compiled({ instances: [instance('web', 'vm1', { protocol: 'auto' })], resources })
    const port = sniffed.snapshot.outbound[0]?.ports[0]
    assert.deepEqual(
      [port?.routes.length, port?.tlsRoutes?.length, port?.tcp.length, sniffed.messages.length],
      [1, 1, 1, 0],
    )
    for (const protocol of ['http', 'grpc', 'tcp'] as const) {
      const found = compiled({ instances: [instance('web', 'vm1', { protocol })], resources })
      assert.equal(found.snapshot.outbound[0]?.ports[0]?.tlsRoutes, undefined)
      assert.deepEqual(found.messages, [
        'VirtualService default/web: spec.tls is not used: no port of web.default is declared as tls',
      ])
    }
  })

  test('a server name that is none leaves the whole object out', () => {
    for (const bad of ['a..b', '*a.test', 'a.test\r\n', '']) {
      const spec = { hosts: ['web'], tls: [{ match: [{ sniHosts: [bad] }], route: [to('web')] }] }
      const { messages } = compiled({ instances: web, resources: [virtualService('web', spec)] })
      assert.match(messages[0] ?? '', /skipped: spec.tls\[0\].match\[0\].sniHosts\[0\] must be a server name/)
    }
  })

  test('http2 and grpc have routes as http has, and no opaque way', () => {
    for (const protocol of ['http2', 'grpc'] as const) {
      const [port] = compiled({ instances: [instance('web', 'vm1', { protocol })] }).snapshot.outbound[0]!
        .ports
      assert.deepEqual([port?.protocol, port?.routes.length, port?.tcp], [protocol, 1, []])
    }
  })
})
