// What we make is accepted by OpenSSL, by its command and by Node's TLS.
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import tls from 'node:tls'
import { readCertificates } from '../../src/pki/cert.ts'
import { alternativeName, basicConstraints } from '../../src/pki/extension.ts'
import { makeRequest } from '../../src/pki/csr.ts'
import { encryptedKeyPem, keyPem, makeKey } from '../../src/pki/key.ts'
import { peerSpiffe } from '../../src/pki/spiffe.ts'
import type { Leaf } from './authority.ts'
import { Authority } from './authority.ts'
import { forgeCertificate } from './forgery.ts'

// Only where the machine has it; a name in a variable, because it is no dependency of ours.
const program = 'openssl'
const openssl = spawnSync(program, ['version']).status === 0
const folder = mkdtempSync(join(tmpdir(), 'meshctl-pki-'))
after(() => rmSync(folder, { recursive: true }))

const write = (name: string, text: string): string => {
  const path = join(folder, name)
  writeFileSync(path, text, { mode: 0o600 })
  return path
}
const run = (...args: string[]): string =>
  execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })

test(
  'openssl reads and verifies our certificates, requests and keys',
  { skip: !openssl && 'no openssl here' },
  async () => {
    const mesh = new Authority()
    const web = 'spiffe://demo.mesh/ns/default/sa/web'
    const { chain } = mesh.leaf(web, { names: ['control.example.com', '192.0.2.7', '2001:db8::7'] })
    const leaf = write('leaf.pem', readCertificates(chain)[0]?.pem ?? '')
    const roots = write('roots.pem', mesh.roots)
    const issuing = write('issuing.pem', mesh.issuing.certificate.pem)
    const verified = run(
      'verify',
      '-x509_strict',
      '-CAfile',
      roots,
      '-untrusted',
      issuing,
      '-purpose',
      'sslserver',
      leaf,
    )
    assert.match(verified, /leaf\.pem: OK/)
    assert.match(
      run('verify', '-x509_strict', '-CAfile', roots, '-untrusted', issuing, '-purpose', 'sslclient', leaf),
      /OK/,
    )
    const text = run('x509', '-in', leaf, '-noout', '-text')
    assert.match(
      text,
      /URI:spiffe:\/\/demo\.mesh\/ns\/default\/sa\/web, DNS:control\.example\.com, IP Address:192\.0\.2\.7, IP Address:2001:DB8:/,
    )
    assert.match(text, /TLS Web Server Authentication, TLS Web Client Authentication/)
    const root = run('x509', '-in', roots, '-noout', '-text')
    assert.match(root, /CA:TRUE, pathlen:1/)
    assert.match(root, /Certificate Sign, CRL Sign/)
    assert.match(root, /Permitted:\s+URI:demo\.mesh/)

    const key = makeKey()
    const request = write('web.csr', makeRequest(key, web))
    const shown = spawnSync(program, ['req', '-in', request, '-verify', '-noout', '-text'], {
      encoding: 'utf8',
    })
    assert.equal(shown.status, 0)
    assert.match(shown.stdout + shown.stderr, /verify OK/)
    assert.match(shown.stdout, /URI:spiffe:\/\/demo\.mesh\/ns\/default\/sa\/web/)

    const encrypted = write('root.key', await encryptedKeyPem(key, 'correct horse'))
    assert.equal(run('pkey', '-in', encrypted, '-passin', 'pass:correct horse'), keyPem(key))
  },
)

interface Meeting {
  /** What the server saw of the client and the other way round; null: not authorised by TLS. */
  readonly client: string | null
  readonly server: string | null
  readonly protocol: string | null
}

/** One mutual TLS 1.3 handshake; both ends report what they believe instead of hanging up. */
async function meet(server: Leaf, client: Leaf, roots: string): Promise<Meeting> {
  const listener = tls.createServer({
    cert: server.chain,
    key: server.key,
    ca: roots,
    requestCert: true,
    rejectUnauthorized: false,
    minVersion: 'TLSv1.3',
  })
  const seen = new Promise<string | null>((resolve) => {
    listener.once('secureConnection', (socket) => {
      resolve(socket.authorized ? peerSpiffe(socket.getPeerCertificate(true)).id : null)
      socket.end()
    })
  })
  listener.listen(0, '127.0.0.1')
  await once(listener, 'listening')
  const { port } = listener.address() as AddressInfo
  const socket = tls.connect({
    port,
    host: '127.0.0.1',
    cert: client.chain,
    key: client.key,
    ca: roots,
    rejectUnauthorized: false,
    checkServerIdentity: () => undefined,
  })
  try {
    await once(socket, 'secureConnect')
    const proved = socket.authorized ? peerSpiffe(socket.getPeerCertificate(true)).id : null
    const protocol = socket.getProtocol()
    return { client: await seen, server: proved, protocol }
  } finally {
    socket.destroy()
    listener.close()
  }
}

test('both ends of a TLS 1.3 connection prove their identities', async () => {
  const mesh = new Authority()
  assert.deepEqual(await meet(mesh.service('web'), mesh.host('vm1'), mesh.roots), {
    client: 'spiffe://demo.mesh/host/vm1',
    server: 'spiffe://demo.mesh/ns/default/sa/web',
    protocol: 'TLSv1.3',
  })
})

test('TLS refuses foreign, expired and strayed certificates', async () => {
  const mesh = new Authority()
  const foreign = new Authority()
  const good = mesh.service('web')
  assert.equal((await meet(good, foreign.service('web'), mesh.roots)).client, null)
  const expired = mesh.leaf('spiffe://demo.mesh/host/vm1', { now: Date.now() - 7_200_000, lifeSeconds: 3600 })
  assert.equal((await meet(good, expired, mesh.roots)).client, null)
  // Signed by our own CA, but outside the trust domain it is confined to.
  const key = makeKey()
  const extensions = [basicConstraints(null), alternativeName({ uri: 'spiffe://other.mesh/control' })]
  const strayed = forgeCertificate({ issuer: mesh.issuing, publicKey: key, extensions })
  const leaf = { chain: strayed + mesh.issuing.certificate.pem, key: keyPem(key), keyObject: key }
  assert.equal((await meet(leaf, good, mesh.roots)).server, null)
})
