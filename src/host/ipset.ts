// The kernel sets behind the capture rules, as input for `ipset restore`. Pure.

export interface Sets {
  /** The heartbeat: holds every address while the proxy is alive, nothing some seconds later. */
  readonly alive: string
  /** `address,port` of registered instances. */
  readonly instances: string
}

export function sets(family: 4 | 6): Sets {
  return family === 4
    ? { alive: 'meshctl_alive', instances: 'meshctl_inst' }
    : { alive: 'meshctl_alive6', instances: 'meshctl_inst6' }
}

/** How long one heartbeat lasts when none follows, seconds. */
export const heartbeatSeconds = 10

const maxInstances = 262_144
/** hash:net knows no /0, so all addresses are two halves. */
const halves = { 4: ['0.0.0.0/1', '128.0.0.0/1'], 6: ['::/1', '8000::/1'] } as const

/** Makes the sets of a family; does nothing where they are. */
export function createSets(family: 4 | 6): string {
  const name = sets(family)
  const inet = family === 4 ? 'inet' : 'inet6'
  return (
    `create ${name.alive} hash:net family ${inet} timeout ${heartbeatSeconds} -exist\n` +
    `create ${name.instances} hash:ip,port family ${inet} maxelem ${maxInstances} -exist\n`
  )
}

/** Replaces the instances (`10.0.0.5,8080`, `fd00::5,8080`) in one step: a second set is filled and swapped in. */
export function fillInstances(family: 4 | 6, instances: readonly string[]): string {
  const name = sets(family).instances
  const next = `${name}_next`
  const mine = instances.filter((entry) => entry.includes(':') === (family === 6))
  return [
    `create ${next} hash:ip,port family ${family === 4 ? 'inet' : 'inet6'} maxelem ${maxInstances} -exist`,
    `flush ${next}`,
    ...[...new Set(mine)].map((entry) => `add ${next} ${entry.replace(/,(\d+)$/, ',tcp:$1')}`),
    `swap ${next} ${name}`,
    `destroy ${next}`,
    '',
  ].join('\n')
}

/** Keeps the capture rules in force for so many seconds; 0: ends it now. */
export function heartbeat(family: 4 | 6, seconds: number): string {
  const name = sets(family).alive
  if (seconds <= 0) return `flush ${name}\n`
  return halves[family].map((half) => `add ${name} ${half} timeout ${seconds} -exist\n`).join('')
}

/** Every set of ours, for removal; the sets must not be in use by a rule. */
export const allSets: readonly string[] = ([4, 6] as const).flatMap((family) => {
  const name = sets(family)
  return [name.alive, name.instances, `${name.instances}_next`]
})
