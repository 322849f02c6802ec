// A lab by hand: `sh scripts/run.sh scripts/lab.ts up --hosts control,vm1,vm2`, then `ssh`, `cut`, `plug`, … `down`.
import { spawnSync } from 'node:child_process'
import { parseArgs } from 'node:util'
import { Lab } from '../test/lab/lab.ts'

const usage = `usage: sh scripts/run.sh scripts/lab.ts COMMAND [--name lab]
  up [--hosts control,vm1,vm2,vm3]   make and boot; stays up (a host written as vm2:plain has no systemd-resolved)
  list                               labs and hosts with their addresses
  ssh HOST [COMMAND…]                over SSH as root
  enter HOST COMMAND…                without the network
  cut|heal|plug|boot|reboot HOST     pull the cable, put it back; pull the plug, switch on; reboot
  down                               remove this lab
  clean                              remove every lab that no running process owns, kept ones too`

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    name: { type: 'string', default: 'dev' },
    hosts: { type: 'string', default: 'control,vm1,vm2,vm3' },
  },
  // What follows the host of ssh and enter is theirs.
  args: cutAtCommand(process.argv.slice(2)),
})
const [command = 'help', host = '', ...rest] = positionals

try {
  process.exitCode = await main()
} catch (error) {
  console.error(error instanceof Error ? error.message : error)
  process.exitCode = 1
}

async function main(): Promise<number> {
  switch (command) {
    case 'up': {
      const began = performance.now()
      const specs = values.hosts.split(',').map((word) => {
        const [name = '', kind] = word.split(':')
        return { name, resolver: kind === 'plain' ? ('plain' as const) : ('resolved' as const) }
      })
      const lab = await Lab.up({ name: values.name, hosts: specs, keep: true, say: console.error })
      console.error(`up in ${((performance.now() - began) / 1000).toFixed(1)} s`)
      print(lab)
      return 0
    }
    case 'list':
      for (const name of Lab.names()) print(Lab.attach(name))
      return 0
    case 'ssh': {
      const lab = Lab.attach(values.name)
      return spawnSync('ssh', [...lab.sshArgs(host), ...rest], { stdio: 'inherit' }).status ?? 1
    }
    case 'enter': {
      const done = await Lab.attach(values.name).enter(host, rest.join(' '))
      process.stdout.write(done.stdout)
      process.stderr.write(done.stderr)
      return done.status
    }
    case 'cut':
    case 'heal':
    case 'plug':
    case 'boot':
    case 'reboot':
      await Lab.attach(values.name)[command](host)
      return 0
    case 'down':
      await Lab.attach(values.name).destroy()
      return 0
    case 'clean':
      for (const name of await Lab.clean(() => true)) console.error(`removed ${name}`)
      return 0
    default:
      console.error(usage)
      return command === 'help' ? 0 : 64
  }
}

function print(lab: Lab): void {
  console.log(`${lab.name}: operator ${lab.network.address}, key ${lab.key}, known hosts ${lab.knownHosts}`)
  for (const machine of lab.hosts.values()) {
    console.log(
      `  ${machine.name.padEnd(10)} ${machine.address.padEnd(14)} ${machine.running ? 'running' : 'off'}`,
    )
  }
}

function cutAtCommand(args: string[]): string[] {
  const at = args.findIndex((word) => word === 'ssh' || word === 'enter')
  return at < 0 ? args : [...args.slice(0, at + 1), '--', ...args.slice(at + 1)]
}
