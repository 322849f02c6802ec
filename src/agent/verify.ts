// `agent verify`: looks at what others see of this host, not at what lies on its disk. The certificate is the one served
// on the wire: meshes have died of proxies that kept the old one.
import { randomInt } from 'node:crypto'
import { createSocket } from 'node:dgram'
import { connect as tlsConnect } from 'node:tls'
import { decode, encode } from 'dns-packet'
import { reason } from '../errors.ts'
import type { HostConfig } from '../model/host.ts'
import { listens } from '../model/service.ts'
import { ports } from '../paths.ts'
import { readCertificate } from '../pki/cert.ts'
import { provesSpiffe } from '../pki/spiffe.ts'
import { linkHttp2, serverName } from '../snapshot/types.ts'
import { holdersOf, type Keyring, type Leaf } from './keyring.ts'

const timeoutMs = 5000

export interface VerifyOptions {
  readonly config: HostConfig
  readonly keyring: Keyring
  readonly now: number
  /** Where the proxy takes links. */
  readonly link?: { readonly address: string; readonly port: number }
}

/** One line per finding about the certificates that the proxy serves; empty: all is well. */
export async function verifyServed(options: VerifyOptions): Promise<string[]> {
  const { config, keyring, now } = options
  const roots = await keyring.roots()
  const [hostHolder, ...holders] = holdersOf(config.trustDomain, config.host, config.services)
  const host = hostHolder === undefined ? null : await keyring.load(hostHolder)
  if (host === null) return ['this host has no certificate of its own']
  const findings: string[] = []
  if (host.notAfter <= now) findings.push(`the certificate of ${host.spiffe} is expired`)
  for (const holder of holders) {
    const leaf = await keyring.load(holder).catch(() => null)
    if (leaf === null) {
      findings.push(`${holder.spiffe} has no certificate`)
      continue
    }
    const service = config.services
      .filter(listens)
      .find(({ name, namespace }) => `${namespace}.${name}` === holder.file)
    if (service === undefined) {
      // It only calls: nothing serves its certificate, and it is shown to those it calls alone.
      if (leaf.notAfter <= now) findings.push(`the certificate of ${leaf.spiffe} is expired`)
      continue
    }
    const name = serverName(service.name, service.namespace, service.servicePort)
    const found = await served(host, roots, name, options.link ?? { address: '127.0.0.1', port: ports.link })
    findings.push(...judge(found, leaf, now).map((text) => `${service.name}.${service.namespace}: ${text}`))
  }
  return findings
}

type Served = { readonly raw: Buffer; readonly trusted: string | null } | { readonly failure: string }

function judge(found: Served, leaf: Leaf, now: number): string[] {
  if ('failure' in found) return [`the proxy does not serve it: ${found.failure}`]
  const certificate = readCertificate(found.raw)
  const findings: string[] = []
  if (!provesSpiffe({ raw: found.raw }, leaf.spiffe))
    findings.push(`the certificate served is not for ${leaf.spiffe}`)
  if (certificate.notAfter <= now) {
    findings.push(`the certificate served is expired since ${new Date(certificate.notAfter).toISOString()}`)
  } else if (certificate.notBefore > now)
    findings.push('the certificate served is not valid yet: is the clock right?')
  else if (found.trusted !== null) findings.push(`the certificate served is not trusted: ${found.trusted}`)
  if (!found.raw.equals(readCertificate(firstOf(leaf.chain)).raw)) {
    findings.push('the certificate served is not the newest one on disk')
  }
  return findings
}

function firstOf(chain: string): string {
  return chain.slice(0, chain.indexOf('-----END CERTIFICATE-----') + '-----END CERTIFICATE-----\n'.length)
}

/** The leaf that answers to the server name, trusted or not, with TLS's own verdict. */
function served(
  host: Leaf,
  roots: string,
  servername: string,
  link: { readonly address: string; readonly port: number },
): Promise<Served> {
  return new Promise((resolve) => {
    const socket = tlsConnect({
      host: link.address,
      port: link.port,
      servername,
      ALPNProtocols: [linkHttp2],
      ca: roots,
      cert: host.chain,
      key: host.keyPem,
      minVersion: 'TLSv1.3',
      // What is served is judged here, in words; no byte is sent to it.
      rejectUnauthorized: false,
      checkServerIdentity: () => undefined,
    })
    const end = (found: Served): void => {
      socket.destroy()
      resolve(found)
    }
    socket.setTimeout(timeoutMs, () => end({ failure: `no answer within ${timeoutMs} ms` }))
    socket.on('error', (error) => end({ failure: reason(error) }))
    socket.on('close', () => end({ failure: 'it closed the connection' }))
    socket.on('secureConnect', () => {
      const { raw } = socket.getPeerCertificate()
      // Node's types say Error; it is a code such as CERT_HAS_EXPIRED.
      const why: unknown = socket.authorizationError
      end({ raw, trusted: socket.authorized ? null : String(why instanceof Error ? why.message : why) })
    })
  })
}

/** Asks the agent's DNS for the mesh's own name; null: it answers as it should. */
export function verifyDns(port: number = ports.dns): Promise<string | null> {
  return new Promise((resolve) => {
    const socket = createSocket('udp4')
    const id = randomInt(0x10000)
    const end = (finding: string | null): void => {
      clearTimeout(timer)
      socket.close()
      resolve(finding)
    }
    const timer = setTimeout(() => end(`dns: no answer on 127.0.0.1 port ${port}`), 2000)
    socket.on('error', (error) => end(`dns: ${reason(error)}`))
    socket.on('message', (packet) => {
      const reply = decode(packet)
      if (reply.id !== id) return
      const code = (reply as { rcode?: string }).rcode ?? ''
      end(code === 'NOERROR' ? null : `dns: the name mesh is answered with ${code}`)
    })
    const question = { name: 'mesh', type: 'SOA', class: 'IN' } as const
    socket.connect(port, '127.0.0.1', () => {
      socket.send(encode({ type: 'query', id, questions: [question] }), () => undefined)
    })
  })
}
