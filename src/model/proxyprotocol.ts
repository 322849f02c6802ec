// The PROXY protocol of a service's port: HAProxy's accept-proxy and send-proxy-v2, Envoy's proxy_protocol on either side.
import type { Fields } from './fields.ts'
import type { Protocol } from './protocol.ts'

/**
 * `accept`: connections from outside the mesh begin with a header (of a balancer). `send`: the application gets a header at
 * the start of each connection. `both`: a header that came is passed on.
 */
const choices = ['accept', 'send', 'both'] as const
export type ProxyProtocol = (typeof choices)[number]

/** Undefined: not said, or a problem was told. */
export function readProxyProtocol(
  fields: Fields,
  protocol: Protocol,
  mtls: 'permissive' | 'strict',
): ProxyProtocol | undefined {
  const found = fields.choice('proxyProtocol', choices, 'proxy_protocol')
  if (found !== undefined && found !== 'accept' && protocol !== 'tcp' && protocol !== 'tls') {
    // A connection to the application that callers share cannot begin with the address of one of them.
    const message = `"${found}" is for protocol=tcp and tls: callers of ${protocol} share connections to the application`
    fields.fault('proxyProtocol', message, 'declare protocol=tcp, or read x-forwarded-client-cert')
  }
  if (found !== undefined && found !== 'send' && mtls === 'strict') {
    const message = `"${found}" is about plain connections, which mtls=strict refuses`
    fields.fault('proxyProtocol', message, 'leave one of them out')
  }
  return found
}
