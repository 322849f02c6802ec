// Names: RFC 1123 labels, because they become DNS names, file names and parts of SPIFFE ids.

declare const brand: unique symbol

/** A checked DNS label: lowercase letters, digits and inner dashes, at most 63. */
export type Name = string & { readonly [brand]: 'name' }

const label = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/

export const defaultNamespace = 'default' as Name
export const domain = 'mesh'

export function isName(text: string): text is Name {
  return label.test(text)
}

/** Why the text is not a name, lowercase; null when it is one. */
export function nameFault(text: string): string | null {
  if (isName(text)) return null
  if (text === '') return 'must not be empty'
  if (text.length > 63) return `is ${text.length} characters long; 63 are allowed`
  return 'must be lowercase letters, digits and dashes, beginning and ending with a letter or digit'
}

/** A version or label value: Consul meta and Istio labels allow more than a DNS label. */
export function isLabelValue(text: string): boolean {
  return text === '' || /^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$/.test(text)
}

/** `<service>.<namespace>.mesh` */
export function fqdn(service: string, namespace: string): string {
  return `${service}.${namespace}.${domain}`
}

export interface Qualified {
  readonly service: string
  readonly namespace: string
}

/**
 * The service that a host name in a resource or on the command line means: `web`, `web.shop`, `web.shop.mesh`,
 * `web.service.consul`. Short names resolve in `namespace`. Null: the host is not of the mesh (`example.com`).
 */
export function serviceOf(host: string, namespace: string = defaultNamespace): Qualified | null {
  const labels = host.toLowerCase().replace(/\.$/, '').split('.')
  const [service = '', second, third, ...more] = labels
  if (more.length > 0 || !labels.every(isName)) return null
  if (second === undefined) return { service, namespace }
  if (second === 'service' && third === 'consul') return { service, namespace }
  if (third === undefined || third === domain) return { service, namespace: second }
  return null
}

/** `web` in its own namespace, `web.shop` elsewhere: how a person writes it. */
export function shortName(service: string, namespace: string): string {
  return namespace === defaultNamespace ? service : `${service}.${namespace}`
}
