import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { destinationRuleShape, virtualServiceShape, type Node } from '../../src/model/honoured.ts'
import { checkTexts } from '../../src/model/istio.ts'
import { printProblem } from '../../src/model/problem.ts'
import type { Resource } from '../../src/model/resource.ts'

const say = (text: string, known: Resource[] | null = null): string[] =>
  checkTexts([{ source: 'f', text }], { known }).problems.map(printProblem)

const head = (kind: string, name: string = 'web'): string =>
  `apiVersion: networking.istio.io/v1\nkind: ${kind}\nmetadata: {name: ${name}}\n`
/** A VirtualService whose spec is hosts plus one line of `http`. */
const http = (route: string): string =>
  `${head('VirtualService')}spec:\n  hosts: [web]\n  http:\n  - ${route}\n`
/** The same with `tls`. */
const tls = (route: string): string => `${head('VirtualService')}spec: {hosts: [web], tls: [{${route}}]}\n`
const rule = (spec: string): string => `${head('DestinationRule')}spec: {host: web, ${spec}}\n`
const to = 'route: [{destination: {host: web}}]'

test('a canary with everything that is honoured passes', () => {
  const text = `${head('VirtualService')}spec:
  hosts: [web, web.default.mesh.other] 
`.replace(', web.default.mesh.other', '')
  const full = `${text}  http:
  - name: beta
    match:
    - name: m
      uri: {prefix: /api}
      method: {exact: GET}
      authority: {regex: "web.*"}
      headers: {x-canary: {exact: "true"}, x-any: {}}
      withoutHeaders: {x-no: {prefix: a}}
      queryParams: {q: {exact: "1"}}
      ignoreUriCase: true
      port: 8080
    route:
    - {destination: {host: web, subset: v1, port: {number: 8080}}, weight: 90}
    - {destination: {host: web, subset: v2}, weight: 10}
    timeout: 2s
    retries: {attempts: 3, perTryTimeout: 500ms, retryOn: "5xx,reset,503"}
  - ${to}
  tcp:
  - match: [{port: 5432}]
    route: [{destination: {host: db.shop}, weight: 1}]
---
${head('DestinationRule')}spec:
  host: web
  trafficPolicy:
    loadBalancer: {simple: LEAST_REQUEST}
    connectionPool: {tcp: {maxConnections: 10, connectTimeout: 1s}, http: {http1MaxPendingRequests: 5}}
    outlierDetection: {consecutive5xxErrors: 5, consecutiveGatewayErrors: 2, baseEjectionTime: 30s, maxEjectionPercent: 50}
  subsets:
  - {name: v1, labels: {version: v1}, trafficPolicy: {loadBalancer: {simple: RANDOM}}}
  - {name: v2, labels: {version: v2}}
`
  const { resources, problems } = checkTexts([{ source: 'f', text: full }])
  assert.deepEqual(problems.map(printProblem), [])
  assert.deepEqual(
    resources.map((resource) => [resource.kind, resource.metadata.namespace]),
    [
      ['VirtualService', 'default'],
      ['DestinationRule', 'default'],
    ],
  )
})

test('an unknown key and a field not yet honoured are told apart, with line and path', () => {
  const text = `${http(to)}    timout: 2s\n    fault: {abort: {httpStatus: 500}}\n    retries: {attemps: 2, backoff: 1s}\n`
  assert.deepEqual(say(text), [
    'f:8: VirtualService default/web: spec.http[0].timout: unknown key (did you mean "timeout"?)',
    'f:9: VirtualService default/web: spec.http[0].fault: is not honoured yet (remove it)',
    'f:10: VirtualService default/web: spec.http[0].retries.attemps: unknown key (did you mean "attempts"?)',
    'f:10: VirtualService default/web: spec.http[0].retries.backoff: is not honoured yet (remove it)',
  ])
})

test('problems, by table', () => {
  const table: [string, RegExp][] = [
    ['just text', /must be an object/],
    ['{}', /kind: is missing/],
    ['kind: Gateway', /kind Gateway is not honoured yet/],
    ['kind: VirtualServce', /unknown kind .*did you mean "VirtualService"/],
    ['kind: Deployment', /unknown kind "Deployment"/],
    [http(to).replace('istio.io/v1', 'istio.io/v9'), /apiVersion: must be networking.istio.io\/v1/],
    [http(to).replace('name: web', 'name: Web'), /metadata.name: "Web" must be/],
    [http(to).replace('{name: web}', '{}'), /metadata.name: is missing/],
    [http(to).replace('{name: web}', '{name: web, namespace: A_b}'), /metadata.namespace/],
    [head('VirtualService'), /spec: is missing/],
    [`${head('VirtualService')}spec: {hosts: [web]}`, /needs http, tls or tcp/],
    [`${head('VirtualService')}spec: {hosts: [], http: []}`, /at least one host/],
    [`${head('VirtualService')}spec: {http: [{${to}}]}`, /at least one host/],
    [http(to).replace('[web]', '["*.web"]'), /wildcard hosts are not honoured yet/],
    [http(to).replace('[web]', '[www.example.com]'), /no service of the mesh/],
    [http(to).replace('[web]', '[web, web.default.mesh]'), /hosts\[1\]: is written twice/],
    [tls('match: [{sniHosts: [a.test]}], route: []'), /tls\[0\].route: needs at least one destination/],
    [tls(to), /match/],
    [tls(`match: [], ${to}`), /match: needs at least one match/],
    [tls(`match: [{}], ${to}`), /sniHosts/],
    [tls(`match: [{sniHosts: []}], ${to}`), /sniHosts: needs at least one server name/],
    [tls(`match: [{sniHosts: ["a.*.test"]}], ${to}`), /"a.\*.test" is no server name/],
    [tls(`match: [{sniHosts: ["-a.test"]}], ${to}`), /is no server name/],
    [tls(`match: [{sniHosts: [a.test], port: 0}], ${to}`), /port: must be a port from 1/],
    [tls(`match: [{sniHosts: [a.test], gateways: [mesh]}], ${to}`), /gateways: is not honoured yet/],
    [
      tls(`match: [{sniHosts: ["*.test"]}], ${to}}, {match: [{sniHosts: [x, A.b.test]}], ${to}`),
      /warning: .*tls\[1\].match\[0\].sniHosts\[1\]: "A.b.test" is never used: "\*.test" above takes it/,
    ],
    [http('route: []'), /at least one destination/],
    [http('timeout: 2s'), /at least one destination/],
    [http('route: [{weight: 1}]'), /destination/],
    [http('route: [{destination: {host: 3}}]'), /host: must be string/],
    [http('route: [{destination: {host: web}}, {destination: {host: api}}]'), /weights sum to 0/],
    [http('route: [{destination: {host: web}, weight: -1}]'), /negative/],
    [http('route: [{destination: {host: web, port: {number: 70000}}}]'), /port from 1/],
    [http('route: [{destination: {host: web}, headers: {}}]'), /headers: is not honoured yet/],
    [http(`{timeout: 2, ${to}}`), /timeout: must be string/],
    [http(`{timeout: 2x, ${to}}`), /timeout: .*(duration|format|not valid)/],
    [http(`{retries: {attempts: -1}, ${to}}`), /attempts/],
    [http(`{retries: {perTryTimeout: 0s}, ${to}}`), /perTryTimeout/],
    [http(`{retries: {retryOn: "5xx,cancelled"}, ${to}}`), /"cancelled" is not honoured yet/],
    [http(`{timeout: 1s, retries: {perTryTimeout: 2s}, ${to}}`), /warning: .*longer than the timeout/],
    [http(`{match: [{uri: {exact: /a, prefix: /b}}], ${to}}`), /exclude each other/],
    [http(`{match: [{uri: {}}], ${to}}`), /needs exact, prefix or regex/],
    [http(`{match: [{uri: {regex: "("}}], ${to}}`), /does not compile/],
    [http(`{match: [{uri: {regex: "(?=a)"}}], ${to}}`), /not part of RE2/],
    [http(`{match: [{uri: {regex: '(a)\\1'}}], ${to}}`), /not part of RE2/],
    [http(`{match: [{uri: {prefix: api}}], ${to}}`), /warning: .*never matches/],
    [http(`{match: [{method: {exact: get}}], ${to}}`), /warning: .*upper case/],
    [http(`{match: [{headers: {":path": {exact: a}}}], ${to}}`), /pseudo headers/],
    [http(`{match: [{headers: {"a b": {exact: a}}}], ${to}}`), /no header name/],
    [http(`{match: [{sourceLabels: {a: b}}], ${to}}`), /sourceLabels: is not honoured yet/],
    [`${http(to)}  - {match: [{port: 1}], ${to}}\n`, /warning: .*matches everything/],
    [`${http(to)}---\n${http(to)}`, /is written twice/],
    [`${http(to)}---\n${http(to).replace('name: web', 'name: b')}`, /warning: .*has routes for it too/],
    [rule('subsets: [{labels: {version: v1}}]'), /subsets\[0\].*name/],
    [rule('subsets: [{name: a, labels: {v: "1"}}, {name: a, labels: {v: "2"}}]'), /"a" is written twice/],
    [rule('subsets: [{name: a}]'), /warning: .*has no labels/],
    [rule('trafficPolicy: {loadBalancer: {simple: PASSTHROUGH}}'), /PASSTHROUGH is not honoured yet/],
    [rule('trafficPolicy: {loadBalancer: {simple: LEAST_CONN}}'), /LEAST_REQUEST/],
    [
      rule('trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true}}}'),
      /consistentHash: is not honoured yet/,
    ],
    [rule('trafficPolicy: {tls: {mode: SIMPLE}}'), /tls: is not honoured yet/],
    [rule('trafficPolicy: {outlierDetection: {maxEjectionPercent: 101}}'), /maxEjectionPercent/],
    [rule('trafficPolicy: {connectionPool: {tcp: {connectTimeout: 0s}}}'), /connectTimeout/],
    [rule('exportTo: ["."]'), /exportTo: is not honoured yet/],
    [rule('').replace('host: web', 'host: "*"'), /wildcard/],
    ['a: [', /not valid YAML or JSON/],
  ]
  for (const [text, pattern] of table) assert.match(say(text).join('\n'), pattern, text)
})

test('a subset must exist where the registry is known', () => {
  const text = http('route: [{destination: {host: web.default.mesh, subset: v3}}]')
  assert.match(say(text).join(), /warning: .*no DestinationRule for web defines the subset "v3" here/)
  assert.match(say(text, []).join(), /warning: .*no DestinationRule for web defines the subset "v3"$/)
  const known = checkTexts([
    { source: 'd', text: rule('subsets: [{name: v1, labels: {version: v1}}]') },
  ]).resources
  assert.deepEqual(say(text, known), [
    'f:7: VirtualService default/web: spec.http[0].route[0].destination.subset: DestinationRule web for web has no subset "v3" (did you mean "v1"?)',
  ])
  // What is written in the same go counts.
  const both = `${text}---\n${rule('subsets: [{name: v3, labels: {version: v3}}]')}`
  assert.deepEqual(say(both, known), [])
})

test('what kubectl exports is taken: lists, older versions, status and server fields', () => {
  const text = `kind: List
items:
- apiVersion: networking.istio.io/v1beta1
  kind: VirtualService
  metadata: {name: web, namespace: shop, uid: abc, resourceVersion: "3", labels: {a: b}}
  spec: {hosts: [web], http: [{${to}}]}
  status: {}
`
  const { resources, problems } = checkTexts([{ source: 'f', text }])
  assert.deepEqual(problems.map(printProblem), [])
  // Agents refuse what they do not know, so it is not stored.
  assert.deepEqual(resources[0]?.metadata, { name: 'web', namespace: 'shop', labels: { a: 'b' } })
  assert.deepEqual(Object.keys(resources[0]), ['apiVersion', 'kind', 'metadata', 'spec'])
})

test('one bad object does not hide another', () => {
  const found = say(`kind: Gateway\n---\n${http('route: []')}---\n${rule('hosts: 1')}`)
  assert.equal(found.length, 3)
})

// The tree must name every field of Istio's types, so that "unknown key" is never said of a real one.
test('the tree of fields knows all of Istio', () => {
  for (const [kind, tree] of [
    ['VirtualService', virtualServiceShape],
    ['DestinationRule', destinationRuleShape],
  ] as const) {
    const missing = outline(kind).filter((path) => !knows(tree, ['spec', ...path]))
    assert.deepEqual(missing, [], kind)
  }
})

/** Paths of every field below `spec` in the library's declaration file. */
function outline(kind: string): string[][] {
  const file = `node_modules/@kubernetes-models/istio/networking.istio.io/v1/${kind}.d.ts`
  const paths = new Map<string, string[]>()
  const stack: string[] = []
  for (const line of readFileSync(file, 'utf8').split('\n')) {
    const field = /^( *)(?:"([\w]+)"\??|\[key: string\]): /.exec(line)
    if (field === null) continue
    const depth = (field[1] ?? '').length / 4
    stack.length = depth
    stack[depth] = field[2] ?? '*'
    const path = stack.slice(1)
    if (path[0] === 'spec' && path.length > 1) paths.set(path.join('.'), path.slice(1))
  }
  assert.ok(paths.size > 60)
  return [...paths.values()]
}

function knows(node: Node, path: readonly string[]): boolean {
  const [step, ...rest] = path
  if (step === undefined || node.kind === 'leaf') return true
  if (node.kind === 'list') return knows(node.item, path)
  if (node.kind === 'map') return knows(node.item, rest)
  if (node.later.includes(step)) return true
  const below = node.fields[step]
  return below !== undefined && knows(below, rest)
}

test('problems come by file and line, whatever found them', () => {
  const rule = (name: string, extra: string): string =>
    `apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: { name: ${name} }\nspec:\n  host: ${name}\n${extra}`
  const files = [
    { source: 'z.yaml', text: rule('web', '  subsets:\n    - labels: { version: v1 }\n  nonsense: 1\n') },
    // A syntax error is found before anything else.
    { source: 'a.yaml', text: `${rule('db', '  nonsense: 1\n')}---\na: [\n` },
  ]
  const { problems } = checkTexts(files)
  const sources = problems.map(({ source }) => source)
  assert.ok(sources.length >= 4, JSON.stringify(problems))
  const lines = (file: string): number[] =>
    sources.filter((source) => source.startsWith(file)).map((source) => Number(source.split(':')[1]))
  assert.equal(sources.findLastIndex((source) => source.startsWith('z')) + 1, lines('z').length)
  for (const file of ['z', 'a'])
    assert.deepEqual(
      lines(file),
      lines(file).toSorted((a, b) => a - b),
    )
})
