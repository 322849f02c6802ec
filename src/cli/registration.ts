// A host's traces in the registry, seen from outside: whether it is there, and taking it out when it cannot do so itself.
import { listens, metaKeys } from '../model/service.ts'
import type { HostConfig } from '../model/host.ts'
import { keys, type Registry } from '../registry/registry.ts'

/** Whether the registry has the host's lease and every service that listens there. */
export async function isRegistered(
  registry: Registry,
  config: Pick<HostConfig, 'mesh' | 'host' | 'services'>,
): Promise<boolean> {
  if ((await registry.get(`${keys.leases(config.mesh)}${config.host}`)).value === null) return false
  for (const service of config.services.filter(listens)) {
    const { value } = await registry.instances(service.name)
    const there = value.some(
      (instance) => instance.id === service.id && instance.meta[metaKeys.host] === config.host,
    )
    if (!there) return false
  }
  return true
}

/** Takes out the host's instances, its node (where that is ours), lease and report. Idempotent. */
export async function deregisterHost(registry: Registry, mesh: string, host: string): Promise<void> {
  const names = Object.keys((await registry.services()).value)
  for (const name of names) {
    for (const instance of (await registry.instances(name)).value) {
      // Of this mesh only: somebody else's Consul may have a host of the same name.
      if (instance.meta[metaKeys.mesh] !== mesh || instance.meta[metaKeys.host] !== host) continue
      await registry.deregister(instance.node, instance.id)
    }
  }
  const node = (await registry.nodes()).value.find((one) => one.name === host)
  if (node?.meta[metaKeys.mesh] === mesh) await registry.deregisterNode(host)
  await registry.delete(`${keys.leases(mesh)}${host}`)
  await registry.delete(`${keys.reports(mesh)}${host}`)
}
