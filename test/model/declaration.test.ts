import assert from 'node:assert/strict'
import { test } from 'node:test'
import { declareServices } from '../../src/model/declaration.ts'
import { printProblem } from '../../src/model/problem.ts'
import { listens } from '../../src/model/service.ts'

const said = (...flags: string[]): string[] => declareServices({ flags }).problems.map(printProblem)

test('a flag with everything becomes a declaration', () => {
  const flag =
    'web,port=8080,service-port=80,protocol=http,version=v1,unit=web,check=http:/healthz,interval=1s,tag=a+b,meta.team=x,locality=eu/a,mtls=strict,on-failure=closed,id=web-1,bind=127.0.0.1'
  const { services, problems } = declareServices({ flags: [flag] })
  assert.deepEqual(problems, [])
  assert.deepEqual(services, [
    {
      name: 'web',
      namespace: 'default',
      id: 'web-1',
      port: 8080,
      servicePort: 80,
      tags: ['a', 'b'],
      meta: { team: 'x', version: 'v1' },
      checks: [{ interval: '1s', http: 'http://127.0.0.1:8080/healthz' }],
      protocol: 'http',
      unit: 'web.service',
      user: null,
      locality: 'eu/a',
      mtls: 'strict',
      onFailure: 'closed',
      bind: '127.0.0.1',
    },
  ])
})

test('defaults are filled in', () => {
  const [service] = declareServices({ flags: ['db.shop,port=5432'] }).services
  assert.equal(service?.namespace, 'shop')
  assert.equal(service.id, 'db.shop')
  assert.equal(service.servicePort, 5432)
  assert.equal(service.protocol, 'auto')
  assert.equal(service.mtls, 'permissive')
  assert.equal(service.onFailure, 'open')
  assert.deepEqual(service.checks, [])
})

test('all problems of a flag come at once, with a hint', () => {
  assert.deepEqual(said('Web,prot=8080,protocol=grcp'), [
    '--service Web,prot=8080,protocol=grcp: prot: unknown key (did you mean "port"?)',
    '--service Web,prot=8080,protocol=grcp: name: "Web" must be lowercase letters, digits and dashes, beginning and ending with a letter or digit',
    '--service Web,prot=8080,protocol=grcp: port: is missing (say where it listens, port=8080, or who only calls as it, user=NAME)',
    '--service Web,prot=8080,protocol=grcp: protocol: must be http, http2, grpc, tls, tcp, auto; not "grcp" (did you mean "grpc"?)',
  ])
})

test('protocols have the names that Istio gives them', () => {
  const table: Record<string, string> = {
    http: 'http',
    http2: 'http2',
    grpc: 'grpc',
    tls: 'tls',
    tcp: 'tcp',
    auto: 'auto',
    HTTPS: 'tls',
    'grpc-web': 'http',
    mongo: 'tcp',
    MySQL: 'tcp',
    redis: 'tcp',
  }
  for (const [written, read] of Object.entries(table)) {
    const { services, problems } = declareServices({ flags: [`web,port=80,protocol=${written}`] })
    assert.deepEqual([services[0]?.protocol, problems], [read, []], written)
  }
  assert.match(said('web,port=80,protocol=udp')[0] ?? '', /only TCP is carried/)
  assert.match(said('web,port=80,protocol=constructor')[0] ?? '', /must be http, http2, .*not "constructor"/)
})

test('the PROXY protocol, where it can be spoken', () => {
  const read = (flag: string): unknown =>
    declareServices({ flags: [`web,port=80,${flag}`] }).services[0]?.proxyProtocol
  assert.equal(read('proxy-protocol=accept'), 'accept')
  assert.equal(read('protocol=tcp,proxy-protocol=send'), 'send')
  assert.equal(read('protocol=https,proxyProtocol=both'), 'both')
  assert.equal('proxyProtocol' in (declareServices({ flags: ['web,port=80'] }).services[0] ?? {}), false)
  const file = { source: 'f', text: 'service: {name: web, port: 80, protocol: tls, proxy_protocol: send}' }
  assert.equal(declareServices({ files: [file] }).services[0]?.proxyProtocol, 'send')
  for (const protocol of ['http', 'http2', 'grpc', 'auto']) {
    const [problem = ''] = said(`web,port=80,protocol=${protocol},proxy-protocol=send`)
    assert.match(problem, /is for protocol=tcp and tls: callers of .* share connections/)
  }
  assert.match(said('web,port=80,proxy-protocol=accept,mtls=strict')[0] ?? '', /which mtls=strict refuses/)
  assert.match(said('web,port=80,proxy-protocol=acept')[0] ?? '', /did you mean "accept"/)
  assert.match(said('web,user=web,proxy-protocol=accept')[0] ?? '', /means nothing without a port/)
})

test('refused flags', () => {
  const table: [string, RegExp][] = [
    ['web,port=0', /port from 1 to 65535/],
    ['web,port=99999', /port from 1 to 65535/],
    ['web,port=80,port=81', /given twice/],
    ['web,port=80,unit=a,user=b', /exclude each other/],
    ['web,port=80,unit=a/b', /no systemd unit name/],
    ['web,port=80,user=Root!', /no user name/],
    ['web,port=80,check=ftp:x', /must be http:\/path/],
    ['web,port=80,check=script:rel', /absolute path/],
    ['web,port=80,check=tcp,interval=5', /no duration/],
    ['web,port=80,interval=5s', /belongs to a check/],
    ['web,port=80,meta.meshctl-host=x', /are ours/],
    ['web,port=80,version=-', /version/],
    ['web,port=15008', /meshctl's own ports/],
    ['web,port=15102', /meshctl's own ports/],
    ['port=80', /name comes first/],
    ['web.a.b,port=80', /service.namespace/],
    ['web,port=80,bind=localhost', /IP address/],
    ['web,port=80,locality=a b', /region/],
  ]
  for (const [flag, pattern] of table) assert.match(said(flag).join('\n'), pattern, flag)
})

test('services of one host must not contradict each other', () => {
  assert.match(said('web,port=80', 'web,port=81').join(), /"web" is declared twice/)
  assert.match(said('web,port=80', 'api,port=80').join(), /80 is taken by web.default/)
  assert.match(said('web,port=80,user=u', 'api,port=81,user=u').join(), /already speaks as web.default/)
  assert.deepEqual(said('web,port=80,user=u', 'web,port=81,user=u,id=web-2'), [])
  assert.match(
    said('web,port=80', 'web,port=81,service-port=80,id=web-2').join(),
    /would mean port 80 as well/,
  )
  assert.deepEqual(said('web,port=80', 'api,port=81,service-port=80'), [])
})

test('a service that only calls has no port', () => {
  const { services, problems } = declareServices({
    flags: ['shop,user=shop', 'jobs.batch,unit=jobs,version=v2,port=0'],
    files: [
      {
        source: 'a.json',
        text: '{"services": [{"name": "a", "user": "a"}, {"Name": "b", "Port": 0, "user": "b", "checks": []}]}',
      },
    ],
  })
  assert.deepEqual(problems, [])
  assert.deepEqual(
    services.map(({ name, namespace, port, servicePort, unit, user }) => [
      `${name}.${namespace}`,
      port,
      servicePort,
      unit ?? user,
    ]),
    [
      ['shop.default', 0, 0, 'shop'],
      ['jobs.batch', 0, 0, 'jobs.service'],
      ['a.default', 0, 0, 'a'],
      ['b.default', 0, 0, 'b'],
    ],
  )
  assert.deepEqual(services.map(listens), [false, false, false, false])
  // One that listens and one that only calls may be the same identity, and so may two that only call.
  assert.deepEqual(said('web,port=80,user=web', 'web,user=cron,id=web-cron', 'web,user=at,id=web-at'), [])
})

test('a service that only calls takes nothing of how others would reach it', () => {
  const flag = (extra: string): string => `shop,user=shop,${extra}`
  for (const [extra, path] of [
    ['check=tcp', 'checks'],
    ['mtls=strict', 'mtls'],
    ['bind=127.0.0.1', 'bind'],
    ['service-port=80', 'servicePort'],
    ['protocol=http', 'protocol'],
    ['on-failure=closed', 'onFailure'],
  ] as const) {
    assert.deepEqual(said(flag(extra)), [
      `--service ${flag(extra)}: ${path}: means nothing without a port: the service only calls (give it a port, or leave this out)`,
    ])
  }
  const text = 'service: {name: shop, user: shop, service_port: 80, check: {tcp: "80"}}'
  assert.deepEqual(
    declareServices({ files: [{ source: 'a.yaml', text }] }).problems.map(({ path }) => path),
    ['service.check', 'service.servicePort'],
  )
  assert.deepEqual(said('shop,user=shop,port=99999'), [
    '--service shop,user=shop,port=99999: port: must be a port from 1 to 65535',
  ])
  const nobody = 'service: {name: shop, port: 0}'
  assert.match(
    declareServices({ files: [{ source: 'a.yaml', text: nobody }] })
      .problems.map(printProblem)
      .join(),
    /port: must be a port from 1 to 65535/,
  )
})

test("Consul's service files: service, services, JSON and YAML", () => {
  const yaml = `services:
  - name: web
    port: 8080
    meta: {version: 2}
    checks:
      - {name: alive, http: /ok, interval: 2s, header: {x-a: [b]}}
      - {tcp: "8081"}
      - {os_service: web}
      - {args: [/bin/true]}
---
service: {name: db, port: 5432, locality: {region: eu, zone: b}}
`
  const json = '{"service": {"name": "api", "ID": "api-1", "port": 90, "check": {"tcp": "10.0.0.1:90"}}}'
  const { services, problems } = declareServices({
    files: [
      { source: 'a.yaml', text: yaml },
      { source: 'b.json', text: json },
    ],
    namespace: 'shop',
  })
  assert.deepEqual(problems, [])
  assert.deepEqual(
    services.map((service) => [service.id, service.namespace, service.port, service.locality]),
    [
      ['web.shop', 'shop', 8080, ''],
      ['db.shop', 'shop', 5432, 'eu/b'],
      ['api-1', 'shop', 90, ''],
    ],
  )
  assert.deepEqual(services[0]?.meta, { version: '2' })
  assert.deepEqual(services[0].checks, [
    { name: 'alive', interval: '2s', http: 'http://127.0.0.1:8080/ok', header: { 'x-a': ['b'] } },
    { tcp: '127.0.0.1:8081' },
    { os_service: 'web.service' },
    { args: ['/bin/true'] },
  ])
  assert.deepEqual(services[2]?.checks, [{ tcp: '10.0.0.1:90' }])
})

test('problems in files carry their line', () => {
  const text =
    'services:\n  - name: web\n    port: 80\n    conect: {}\n  - name: b\n    port: x\n    weights: {}\n'
  const { problems, services } = declareServices({ files: [{ source: 'a.yaml', text }] })
  assert.deepEqual(problems.map(printProblem), [
    'a.yaml:4: services[0].conect: unknown key (remove it)',
    'a.yaml:6: services[1].port: must be a port from 1 to 65535',
    'a.yaml:7: services[1].weights: is not honoured yet (remove it)',
  ])
  assert.deepEqual(services, [])
})

test('files that are no service files', () => {
  const problem = (text: string): string =>
    declareServices({ files: [{ source: 'f', text }] })
      .problems.map(printProblem)
      .join('\n')
  assert.match(problem(''), /holds no service/)
  assert.match(problem('name: web\nport: 80\n'), /f:1: .*unknown key|holds no service/)
  assert.match(problem('a: [\n'), /f:\d: not valid YAML or JSON/)
  assert.match(problem('- 1'), /must be an object/)
})
