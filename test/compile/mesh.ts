// A small mesh to compile, and shorthands for its parts.
import type { CompileInput } from '../../src/compile/input.ts'
import type { MeshInstance } from '../../src/model/instance.ts'
import type { HostConfig } from '../../src/model/host.ts'
import type { ServiceDeclaration } from '../../src/model/service.ts'

export function declared(name: string, over: Partial<ServiceDeclaration> = {}): ServiceDeclaration {
  return {
    name,
    namespace: 'default',
    id: name,
    port: 8080,
    servicePort: 8080,
    tags: [],
    meta: { version: 'v1' },
    checks: [],
    protocol: 'http',
    unit: `${name}.service`,
    user: null,
    locality: '',
    mtls: 'permissive',
    onFailure: 'open',
    bind: null,
    ...over,
  }
}

export function hostConfig(over: Partial<HostConfig> = {}): HostConfig {
  return {
    schema: 1,
    mesh: 'demo',
    trustDomain: 'demo.mesh',
    host: 'vm1',
    address: '10.0.0.1',
    registry: { url: 'http://127.0.0.1:1', token: null, ca: null, spiffe: null, localAgent: null },
    signers: [],
    services: [],
    upstreams: null,
    capture: { outbound: 'mesh', inbound: true, excludePorts: [], excludeCidrs: [] },
    dns: 'off',
    workers: 1,
    accessLog: false,
    ...over,
  }
}

export function instance(service: string, host: string, over: Partial<MeshInstance> = {}): MeshInstance {
  const version = over.version ?? 'v1'
  return {
    service,
    namespace: 'default',
    host,
    address: `10.0.0.${host.replace(/\D/g, '')}`,
    port: 8080,
    servicePort: 8080,
    protocol: 'http',
    version,
    labels: { version },
    linkPort: 15008,
    locality: '',
    passing: true,
    ...over,
  }
}

export function input(over: Partial<CompileInput> = {}): CompileInput {
  return {
    config: hostConfig(),
    local: [],
    resources: [],
    instances: [],
    vips: [{ service: 'web', namespace: 'default', address: '240.240.0.1' }],
    ...over,
  }
}

export function virtualService(name: string, spec: object, namespace: string = 'default'): object {
  return { apiVersion: 'networking.istio.io/v1', kind: 'VirtualService', metadata: { name, namespace }, spec }
}

export function destinationRule(name: string, spec: object, namespace: string = 'default'): object {
  return {
    apiVersion: 'networking.istio.io/v1',
    kind: 'DestinationRule',
    metadata: { name, namespace },
    spec,
  }
}

export const subsets = [
  { name: 'v1', labels: { version: 'v1' } },
  { name: 'v2', labels: { version: 'v2' } },
]
