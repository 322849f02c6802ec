// `meshctl join [user@]host…` and `meshctl join host HOST…`
import { readFile } from 'node:fs/promises'
import { Option, type Command } from 'commander'
import { MeshError } from '../../errors.ts'
import { declareServices } from '../../model/declaration.ts'
import { printProblem, refuse } from '../../model/problem.ts'
import type { ServiceDeclaration } from '../../model/service.ts'
import { collect, examples, subcommand, type Cli } from '../cli.ts'
import { checkAccepting, checkJoinFlags, type JoinFlags } from '../hostplan.ts'
import { addSshFlags, collectPort, readCount, type SshFlags } from '../remote.ts'

export interface JoinCommandFlags extends JoinFlags, SshFlags {
  readonly service?: string[]
  readonly servicesFile?: string[]
  /** False: --no-services. */
  readonly services: boolean
  readonly namespace: string
  readonly timers: boolean
  readonly concurrency: number
  readonly dryRun: boolean
  readonly replace: boolean
  readonly force: boolean
  readonly timeout: number
  readonly yes: boolean
}

export function register(program: Command, cli: Cli): void {
  const command = subcommand(program, 'join <hosts...>').summary('put hosts into the mesh over SSH')
  command.description(
    'Puts hosts into the mesh: [user@]host[:port], several at once, or `local` for\nthis machine. If any step fails, everything done on that host is undone.',
  )
  command
    .optionsGroup('What the host serves:')
    .option('--service <declaration>', 'name,port=…; may be repeated (see below)', collect)
    .option('--services-file <file>', "Consul's service definitions, YAML or JSON", collect)
    .option('-n, --namespace <name>', 'for services that name none', 'default')
    .option('--no-services', 'none, also where the host had some before')
    .optionsGroup('The host in the mesh:')
    .option('--name <name>', 'its name (default: the name it is reached by)')
    .option('--address <ip>', 'where other hosts reach it')
    .addOption(
      new Option('--capture <what>', 'outbound connections to redirect')
        .choices(['mesh', 'all', 'off'])
        .default('mesh'),
    )
    .option('--no-inbound', 'do not redirect connections to declared ports')
    .option('--exclude-port <port>', 'never redirect it; may be repeated', collectPort)
    .option('--exclude-cidr <network>', 'never redirect to it; may be repeated', collect)
    .addOption(
      new Option('--dns <how>', 'names of the mesh')
        .choices(['auto', 'resolved', 'resolv.conf', 'off'])
        .default('auto'),
    )
    .option('--upstream <service>', 'watch only these; may be repeated', collect)
    .option('--consul-agent <url>', "the host's own: auto, off or a URL", 'auto')
    .option('--workers <n>', 'processes of the data plane (default: cores, up to 4)', readCount(1, 64))
    .option('--no-timers', 'no systemd timers; prints cron lines instead')
    .option('--no-access-log', 'write no access log')
  addSshFlags(command)
  command
    .optionsGroup('How:')
    .option('--concurrency <n>', 'hosts at the same time', readCount(1, 64), 4)
    .option('--replace', 'a host known under another SSH key', false)
    .option('--force', 'do it again where nothing changed', false)
    .option('--timeout <seconds>', 'for the probes at the end', readCount(1, 3600), 60)
    .option('--dry-run', 'look at the hosts, change nothing', false)
    .option('-y, --yes', 'ask nothing', false)
  command.addHelpText('after', declarationHelp)
  examples(command, [
    'meshctl join root@vm1 --service web,port=8080,version=v1,unit=web.service',
    'meshctl join vm1 vm2 vm3 -l admin -i key.pem --services-file web.yaml',
    'meshctl join 10.0.0.7 --name db --service db,port=5432 --dry-run',
    'meshctl join local --service api,port=3000,user=api,check=http:/healthz',
  ])
  command.action(async (named: string[], flags: JoinCommandFlags) => {
    const targets = named[0] === 'host' && named.length > 1 ? named.slice(1) : named
    checkJoinFlags(flags, targets)
    const declared = flags.service !== undefined || flags.servicesFile !== undefined
    if (declared && !flags.services)
      throw new MeshError('MSH0101', '--no-services excludes --service and --services-file')
    // Nothing said: a host that is joined keeps what it has.
    const services = declared || !flags.services ? await readServices(cli, flags) : null
    checkAccepting(flags, services ?? [])
    const { joinHosts } = await import('../joining.ts')
    await joinHosts(cli, targets, flags, services)
  })
}

/** From flags and files, with every problem told before any connection is made. */
export async function readServices(
  cli: Cli,
  flags: Pick<JoinCommandFlags, 'service' | 'servicesFile' | 'namespace'>,
): Promise<readonly ServiceDeclaration[]> {
  const files = await Promise.all(
    (flags.servicesFile ?? []).map(async (source) => {
      const text = await readFile(source === '-' ? '/dev/stdin' : source, 'utf8').catch((error: unknown) => {
        throw new MeshError('MSH0101', `--services-file ${source} cannot be read`, { cause: error })
      })
      return { source, text }
    }),
  )
  const declared = declareServices({ flags: flags.service ?? [], files, namespace: flags.namespace })
  refuse(declared.problems, 'MSH0201', 'service declarations')
  for (const problem of declared.problems) cli.terminal.say(printProblem(problem))
  return declared.services
}

const declarationHelp = `
Service declarations:
  web[.namespace],port=8080[,key=value]...
  protocol=http|http2|grpc|tls|tcp|auto
                               how its bytes are understood (auto)
  version=v1                   what routes split by; also tag=a+b, meta.KEY=V
  unit=web.service, user=web   who on the host may speak as this service; with
                               it port may be left out: it only calls
  check=http:/healthz          also tcp, tcp:PORT, unit:NAME, script:/path;
                               with interval=5s, timeout=2s
  service-port=80              the port that callers use (the same)
  mtls=strict                  refuse plain text (permissive)
  proxy-protocol=accept        a balancer's PROXY header comes first; send: the
                               application gets one (tcp, tls); both
  on-failure=closed            refuse while nothing of meshctl is alive (open)
  locality=eu/a, id=web-1, bind=127.0.0.1`
