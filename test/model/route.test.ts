import assert from 'node:assert/strict'
import { test } from 'node:test'
import { checkObjects } from '../../src/model/istio.ts'
import type { DestinationRule, VirtualService } from '../../src/model/resource.ts'
import { routesOf, setRoute, unsetRoute, type RouteChange, type RouteObjects } from '../../src/model/route.ts'
import {
  printDestinations,
  printMatch,
  printNames,
  readMatch,
  readSplit,
} from '../../src/model/routematch.ts'

const web = { service: 'web', namespace: 'shop' }
const none: RouteObjects = { virtualService: null, destinationRule: null }
const nothing: RouteChange = {
  to: [],
  match: null,
  sni: [],
  rule: null,
  timeout: null,
  retries: null,
}
const split = (text: string): RouteChange => ({ ...nothing, to: readSplit(text) })

test('a split makes a VirtualService and a DestinationRule that pass the checks', () => {
  const { virtualService, destinationRule } = setRoute(web, 'http', split('v1=90,1.2=10'), none)
  assert.deepEqual(virtualService.spec, {
    hosts: ['web'],
    http: [
      {
        route: [
          { destination: { host: 'web', subset: 'v1' }, weight: 90 },
          { destination: { host: 'web', subset: '1-2' }, weight: 10 },
        ],
      },
    ],
  })
  assert.deepEqual(destinationRule?.spec.subsets, [
    { name: 'v1', labels: { version: 'v1' } },
    { name: '1-2', labels: { version: '1.2' } },
  ])
  assert.deepEqual(checkObjects([virtualService, destinationRule], { known: [] }).problems, [])
})

test('setting the same again changes nothing; another split replaces the weights only', () => {
  const first = setRoute(web, 'http', { ...split('v1=90,v2=10'), timeout: '2s' }, none)
  assert.deepEqual(setRoute(web, 'http', split('v1=90,v2=10'), first), first)
  const second = setRoute(web, 'http', split('v2'), first)
  assert.deepEqual(second.virtualService.spec.http, [
    { route: [{ destination: { host: 'web', subset: 'v2' } }], timeout: '2s' },
  ])
  assert.equal(second.destinationRule?.spec.subsets?.length, 2)
})

test('a rule with a match goes before the one that takes everything', () => {
  const base = setRoute(web, 'http', split('v1'), none)
  const match = readMatch({ pathPrefix: '/api', header: ['X-Canary=true'] })
  const canary = setRoute(web, 'http', { ...split('v2'), match }, base)
  assert.deepEqual(canary.virtualService.spec.http?.map(printMatch), ['path /api* x-canary=true', '*'])
  // The same match in another order is the same rule.
  const other = readMatch({ header: ['x-canary=true'], pathPrefix: '/api' })
  const again = setRoute(web, 'http', { ...split('v3'), match: other }, canary)
  assert.deepEqual(
    again.virtualService.spec.http?.map((route) => printDestinations(route.route)),
    ['v3', 'v1'],
  )
  // On an empty service the rest still arrives.
  const alone = setRoute(web, 'http', { ...split('v2'), match }, none)
  assert.deepEqual(
    alone.virtualService.spec.http?.map((route) => printDestinations(route.route)),
    ['v2', 'web'],
  )
})

test('timeouts and retries without --to keep the destinations', () => {
  const base = setRoute(web, 'http', split('v1=1,v2=1'), none)
  const changed = setRoute(web, 'http', { ...nothing, timeout: '1s', retries: { attempts: 2 } }, base)
  assert.equal(printDestinations(changed.virtualService.spec.http?.[0]?.route), 'v1=1 v2=1')
  const merged = setRoute(web, 'http', { ...nothing, retries: { retryOn: '5xx' } }, changed)
  assert.deepEqual(merged.virtualService.spec.http?.[0]?.retries, { attempts: 2, retryOn: '5xx' })
})

test('protocols decide which routes are written', () => {
  const tcp = setRoute(web, 'tcp', split('v1=1,v2=3'), none)
  assert.equal(tcp.virtualService.spec.http, undefined)
  assert.equal(printDestinations(tcp.virtualService.spec.tcp?.[0]?.route), 'v1=1 v2=3')
  const auto = setRoute(web, 'auto', split('v1'), none)
  assert.equal(auto.virtualService.spec.http?.length, 1)
  assert.equal(auto.virtualService.spec.tcp?.length, 1)
  assert.throws(() => setRoute(web, 'tcp', { ...split('v1'), timeout: '1s' }, none), { code: 'MSH0101' })
})

test('hand-written objects are found by host and keep what the sugar does not speak of', () => {
  const service: VirtualService = {
    apiVersion: 'networking.istio.io/v1beta1',
    kind: 'VirtualService',
    metadata: { name: 'my-routes', namespace: 'shop', labels: { a: 'b' } },
    spec: {
      hosts: ['web.shop.mesh'],
      http: [{ name: 'x', match: [{ uri: { exact: '/x' } }], route: [{ destination: { host: 'api' } }] }],
    },
  }
  const rule: DestinationRule = {
    apiVersion: 'networking.istio.io/v1',
    kind: 'DestinationRule',
    metadata: { name: 'mine', namespace: 'shop' },
    spec: {
      host: 'web',
      trafficPolicy: { loadBalancer: { simple: 'RANDOM' } },
      subsets: [{ name: 'stable', labels: { version: 'v1' } }],
    },
  }
  const found = routesOf(web, [service], [rule])
  assert.equal(found.virtualService, service)
  assert.deepEqual(routesOf({ service: 'web', namespace: 'default' }, [service], [rule]), none)
  const changed = setRoute(web, 'http', split('v1=9,v2=1'), found)
  assert.equal(changed.virtualService.metadata.name, 'my-routes')
  assert.equal(changed.virtualService.spec.http?.[0]?.name, 'x')
  assert.equal(printDestinations(changed.virtualService.spec.http[1]?.route), 'stable=9 v2=1')
  assert.deepEqual(changed.destinationRule?.spec.trafficPolicy, rule.spec.trafficPolicy)
  assert.equal(
    unsetRoute({ match: null, sni: [], rule: null }, changed).destinationRule,
    changed.destinationRule,
  )
})

test('unset takes out one rule, or everything', () => {
  const match = readMatch({ path: '/x', method: 'get' })
  const both = setRoute(
    web,
    'http',
    { ...split('v2'), match, rule: 'beta' },
    setRoute(web, 'http', split('v1'), none),
  )
  const rest = unsetRoute({ match: null, sni: [], rule: 'beta' }, both)
  assert.deepEqual(rest.virtualService?.spec.http?.map(printMatch), ['*'])
  assert.deepEqual(unsetRoute({ match: readMatch({ path: '/other' }), sni: [], rule: null }, both), both)
  assert.deepEqual(unsetRoute({ match: null, sni: [], rule: null }, both), none)
})

test('TLS is routed by server name: narrow names go first, the rest still arrives', () => {
  const change = (sni: string[], to: string): RouteChange => ({ ...split(to), sni })
  const names = (objects: RouteObjects): string[] =>
    (objects.virtualService?.spec.tls ?? []).map(
      (route) => `${printNames(route)} ${printDestinations(route.route)}`,
    )
  const wide = setRoute(web, 'tls', change(['*.shop.test'], 'v1'), none)
  assert.deepEqual(names(wide), ['sni *.shop.test v1', 'sni * web'])
  assert.equal(wide.virtualService.spec.http, undefined)
  const narrow = setRoute(web, 'tls', change(['pay.shop.test', 'PAY2.shop.test'], 'v1=1,v2=3'), wide)
  const third = setRoute(web, 'tls', change(['other.test'], 'v2'), narrow)
  const all = [
    'sni pay.shop.test,PAY2.shop.test v1=1 v2=3',
    'sni *.shop.test v1',
    'sni other.test v2',
    'sni * web',
  ]
  assert.deepEqual(names(third), all)
  assert.deepEqual(checkObjects([third.virtualService, third.destinationRule], { known: [] }).problems, [])
  // The same names are the same rule; without --sni a tls port has the rule that takes everything.
  const again = setRoute(web, 'tls', change(['pay2.shop.test', 'pay.shop.test'], 'v2'), third)
  assert.equal(names(again)[0], 'sni pay.shop.test,PAY2.shop.test v2')
  assert.equal(names(setRoute(web, 'tls', split('v1'), third)).at(-1), 'sni * v1')
  const one = unsetRoute({ match: null, sni: ['*.SHOP.test'], rule: null }, third)
  assert.deepEqual(names(one), all.toSpliced(1, 1))
  assert.throws(() => unsetRoute({ match: { port: 1 }, sni: ['other.test'], rule: null }, third), {
    code: 'MSH0101',
  })
  // A sniffed port keeps what it has for other protocols.
  const auto = setRoute(web, 'auto', change(['a.test'], 'v2'), setRoute(web, 'auto', split('v1'), none))
  const { http, tls, tcp } = auto.virtualService.spec
  assert.deepEqual([http?.length, tls?.length, tcp?.length], [1, 2, 1])
  const refused: [Parameters<typeof setRoute>[1], RouteChange][] = [
    ['http', change(['a.test'], 'v1')],
    ['tcp', change(['a.test'], 'v1')],
    ['tls', { ...change(['a.test'], 'v1'), timeout: '1s' }],
    ['tls', { ...nothing, sni: ['a.test'] }],
    ['tls', { ...split('v1'), timeout: '1s' }],
  ]
  for (const [protocol, one] of refused)
    assert.throws(() => setRoute(web, protocol, one, none), { code: 'MSH0101' }, protocol)
})

test('splits and matches that are refused', () => {
  for (const text of ['', 'v1=', 'v1=x', 'v1=-1', 'v1=1.5', 'v1,v2', '=5', 'v1=1,v1=2', 'v1=0,v2=0']) {
    assert.throws(() => readSplit(text), { code: 'MSH0101' }, text)
  }
  assert.deepEqual(readSplit('v1=90%, v2=10%'), [
    { version: 'v1', weight: 90 },
    { version: 'v2', weight: 10 },
  ])
  assert.throws(() => readMatch({ path: '/a', pathRegex: 'b' }), { code: 'MSH0101' })
  assert.throws(() => readMatch({ header: ['=x'] }), { code: 'MSH0101' })
  assert.deepEqual(readMatch({ header: ['a^=b', 'C~=d.*', 'e'], query: ['Q=1'] }), {
    headers: { a: { prefix: 'b' }, c: { regex: 'd.*' }, e: {} },
    queryParams: { Q: { exact: '1' } },
  })
  assert.equal(readMatch({}), null)
})
