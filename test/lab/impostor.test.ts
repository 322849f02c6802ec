// Those who are not who they say: on links as callers and as servers, and at the signer. Each refusal has a twin that
// succeeds, so that the test can fail.
import assert from 'node:assert/strict'
import { createPrivateKey } from 'node:crypto'
import http2 from 'node:http2'
import { after, before, test } from 'node:test'
import { connect } from 'node:tls'
import { connectSigner, type Signer } from '../../src/api/client.ts'
import { serviceSpiffe } from '../../src/model/service.ts'
import { pathsUnder, ports } from '../../src/paths.ts'
import { readCertificate } from '../../src/pki/cert.ts'
import { makeRequest } from '../../src/pki/csr.ts'
import { type Issuer, makeIssuing, makeLeaf, makeRoot } from '../../src/pki/issue.ts'
import { keyPem, makeKey, publicOf } from '../../src/pki/key.ts'
import { linkHttp2, serverName } from '../../src/snapshot/types.ts'
import { Lab } from './lab.ts'
import { Mesh } from './mesh.ts'
import { addUser, startWeb } from './service.ts'
import { until } from './shell.ts'

const trustDomain = 'lab.mesh'
const shop = serviceSpiffe(trustDomain, 'default', 'shop')
const web = serviceSpiffe(trustDomain, 'default', 'web')
const url = 'http://web.default.mesh:8080/'
const day = 86_400_000
let lab: Lab
let mesh: Mesh
let ours: { issuer: Issuer; below: string; roots: string }

before(async () => {
  lab = await Lab.up({ name: `impostor-${process.pid}`, hosts: ['control', 'vm1', 'vm2'] })
  mesh = new Mesh(lab)
  await Promise.all([startWeb(lab, 'vm1'), addUser(lab, 'vm2', 'shop')])
  await mesh.init('control')
  await mesh.mustJoin('vm1', ['web,port=8080,protocol=http,unit=web.service'])
  await mesh.mustJoin('vm2', ['shop,port=9090,protocol=http,user=shop'])
  const ca = (file: string): Promise<string> => lab.do('control', `cat ${pathsUnder().control}/ca/${file}`)
  const below = await ca('issuing.pem')
  ours = {
    issuer: { certificate: readCertificate(below), key: createPrivateKey(await ca('issuing.key')) },
    below,
    roots: await ca('roots.pem'),
  }
  await until('the client to reach web', async () => (await ask()).startsWith('web v1'))
})
after(async () => await lab.destroy())

interface Proof {
  readonly chain: string
  readonly key: string
}

/** A leaf of our issuing CA, as somebody who holds its key could make it. */
function leaf(
  spiffe: string,
  now: number = Date.now(),
  issuer: Issuer = ours.issuer,
  below: string = ours.below,
): Proof {
  const key = makeKey()
  return {
    chain: makeLeaf({ issuer, publicKey: publicOf(key), spiffe, now, lifeSeconds: 3600 }) + below,
    key: keyPem(key),
  }
}

/** A CA of somebody else with the same names. */
function foreign(): { issuer: Issuer; below: string } {
  const [rootKey, issuingKey] = [makeKey(), makeKey()]
  const root = readCertificate(makeRoot({ key: rootKey, trustDomain, now: Date.now() }))
  const below = makeIssuing({
    root: { certificate: root, key: rootKey },
    publicKey: publicOf(issuingKey),
    trustDomain,
    now: Date.now(),
  })
  return { issuer: { certificate: readCertificate(below), key: issuingKey }, below }
}

/** Calls web's link on vm1; what came back, or how it was refused. */
function call(proof: Proof | null): Promise<string> {
  return new Promise((resolve) => {
    let got = ''
    const socket = connect({
      host: lab.host('vm1').address,
      port: ports.link,
      servername: serverName('web', 'default', 8080),
      ALPNProtocols: [linkHttp2],
      // Links speak P-256 only; another first guess costs a second hello, after which Node's server forgets the ALPN.
      ecdhCurve: 'P-256',
      ca: ours.roots,
      checkServerIdentity: () => undefined,
      ...(proof === null ? {} : { cert: proof.chain, key: proof.key }),
    })
    const deadline = setTimeout(() => socket.destroy(new Error('no answer')), 5000)
    socket.on('secureConnect', () => {
      const session = http2.connect('http://web.default.mesh:8080', { createConnection: () => socket })
      session.on('error', () => undefined)
      const request = session.request({ ':path': '/' })
      request.on('response', (head) => (got += `${head[':status']} `))
      request.on('data', (chunk: Buffer) => (got += chunk.toString()))
      request.on('error', () => undefined)
      request.on('close', () => session.close())
    })
    socket.on('error', (error) => (got ||= `refused: ${error.message}`))
    socket.on('close', () => {
      clearTimeout(deadline)
      resolve(got === '' ? 'refused: closed' : got)
    })
  })
}

async function ask(): Promise<string> {
  return (await lab.enter('vm2', `curl -s -m 5 ${url}`, { user: 'shop' })).stdout
}

async function served(): Promise<number> {
  return Number(await lab.do('vm1', 'curl -s http://127.0.0.1:8080/served'))
}

test('a caller with a certificate of the mesh is served', async () => {
  assert.match(await call(leaf(shop)), /^200 /)
})

for (const [name, make] of [
  ['none', () => null],
  ['of another CA with our names', () => leaf(shop, Date.now(), foreign().issuer, foreign().below)],
  [
    'of another CA, whole chain',
    () => {
      const other = foreign()
      return leaf(shop, Date.now(), other.issuer, other.below)
    },
  ],
  ['expired', () => leaf(shop, Date.now() - 2 * day)],
  ['not valid yet', () => leaf(shop, Date.now() + 2 * day)],
] as const) {
  test(`a caller's certificate that is refused: ${name}`, async () => {
    const before = await served()
    const answer = await call(make())
    assert.doesNotMatch(answer, /^200 /)
    assert.equal(await served(), before + 1, 'nothing but the counting itself reached the application')
  })
}

test('a server that cannot prove the service gets no request', async () => {
  const place = '/root/impostor'
  const impersonate = async (spiffe: string): Promise<void> => {
    const proof = leaf(spiffe)
    await lab.do('vm1', `mkdir -p ${place}; systemctl stop impostor 2>/dev/null; true`)
    for (const [file, text] of [
      ['chain', proof.chain],
      ['key', proof.key],
      ['roots', ours.roots],
    ] as const) {
      await lab.do('vm1', `cat > ${place}/${file}.pem`, { input: text })
    }
    await lab.do(
      'vm1',
      `systemd-run -q --unit=impostor --collect /lab/app/node /lab/app/impostor.ts ${place}/chain.pem ${place}/key.pem ${place}/roots.pem ${place}/count`,
    )
    await until('the impostor to listen', async () => (await lab.do('vm1', 'ss -Hltn sport = :15008')) !== '')
  }
  const count = async (): Promise<number> => Number(await lab.do('vm1', `cat ${place}/count`))
  // The agent would bring the real proxy back; the registry goes on to name vm1.
  await lab.do('vm1', 'systemctl stop meshctl-proxy.socket meshctl-proxy.service')
  try {
    await impersonate(shop)
    for (let n = 0; n < 5; n++) assert.doesNotMatch(await ask(), /impostor/)
    assert.equal(await count(), 0, 'the caller sent nothing to a server that proved another service')
    await impersonate(web)
    assert.match(
      await until('the twin that proves web to be used', async () => {
        const answer = await ask()
        return answer.includes('impostor') ? answer : null
      }),
      /impostor/,
    )
  } finally {
    await lab.do('vm1', 'systemctl stop impostor; systemctl start meshctl-proxy.socket meshctl-proxy.service')
  }
  await until('the real web', async () => (await ask()).startsWith('web v1'), { timeoutMs: 60_000 })
})

async function signerOf(host: string): Promise<Signer> {
  const identity = pathsUnder().identity
  return connectSigner({
    urls: [`https://${lab.host('control').address}:${ports.signer}`],
    roots: ours.roots,
    trustDomain,
    cert: await lab.do(host, `cat ${identity}/host.pem`),
    key: await lab.do(host, `cat ${identity}/host.key`),
  })
}

test('a host gets certificates for its own services only', async () => {
  const signer = await signerOf('vm2')
  const own = await signer.sign({ csrs: [makeRequest(makeKey(), shop)] })
  assert.equal(own.chains.length, 1)
  for (const wanted of [
    web,
    serviceSpiffe(trustDomain, 'default', 'nobody'),
    `spiffe://${trustDomain}/host/vm1`,
    `spiffe://${trustDomain}/control`,
  ]) {
    await assert.rejects(signer.sign({ csrs: [makeRequest(makeKey(), wanted)] }), /./, wanted)
  }
})

test('a host cannot act as an operator', async () => {
  const signer = await signerOf('vm2')
  await assert.rejects(
    signer.grant({
      host: 'vm9',
      address: '10.0.0.9',
      services: [{ name: 'web', namespace: 'default' }],
      sshHostKey: lab.host('vm2').hostKey,
      replace: false,
    }),
  )
  await assert.rejects(signer.revoke('vm1'))
  await assert.rejects(signer.entitlement('vm2', { services: [{ name: 'web', namespace: 'default' }] }))
})
