// `meshctl route set|get|list|unset`: sugar over one VirtualService and one DestinationRule per service.
import type { Command } from 'commander'
import { examples, collect, subcommand, type Cli } from '../cli.ts'
import { outputOption, type Format } from '../output.ts'
import { readCount, readPort } from '../remote.ts'

export interface MatchOptions {
  readonly path?: string
  readonly pathPrefix?: string
  readonly pathRegex?: string
  readonly method?: string
  readonly authority?: string
  readonly header?: string[]
  readonly withoutHeader?: string[]
  readonly query?: string[]
  readonly port?: number
  readonly sni?: string[]
  readonly rule?: string
  readonly namespace?: string
}

export interface SetFlags extends MatchOptions {
  readonly to?: string
  readonly timeout?: string
  /** False: --no-retries. */
  readonly retries?: number | boolean
  readonly perTryTimeout?: string
  readonly retryOn?: string
  readonly dryRun: boolean
  readonly force: boolean
  readonly output: Format
}

export interface UnsetFlags extends MatchOptions {
  readonly dryRun: boolean
  readonly yes: boolean
}

export function register(program: Command, cli: Cli): void {
  const parent = subcommand(program, 'route').summary('split, match, timeouts, retries')
  parent.description(
    "Routes of a service: sugar over Istio's VirtualService and DestinationRule, which\n`meshctl get` shows and `meshctl apply` writes.",
  )
  examples(parent, ['meshctl route set web --to v1=90,v2=10', 'meshctl route list'])

  const set = subcommand(parent, 'set <service>').description(
    'Sets one rule of a service: the one with this match, or the one that takes\neverything. What no flag names stays as it is.',
  )
  set
    .optionsGroup('What the rule does:')
    .option('--to <split>', 'versions and weights: v1=90,v2=10, or v1 alone')
    .option('--timeout <time>', 'of the whole request: 2s, 500ms; 0s for none')
    .option('--retries <n>', 'tries after the first', readCount(0, 100))
    .option('--no-retries', 'the same as --retries 0')
    .option('--per-try-timeout <time>', 'of each try')
    .option('--retry-on <words>', '5xx,reset,connect-failure,503 …')
  addMatchOptions(set)
  set
    .optionsGroup('How:')
    .option('--dry-run', 'show the difference, write nothing', false)
    .option('--force', 'versions that no instance has (yet)', false)
  outputOption(set, ['table', 'json', 'yaml', 'name'])
  examples(set, [
    'meshctl route set web --to v1=90,v2=10 --timeout 2s',
    "meshctl route set web --to v2 --header 'x-canary=true'",
    'meshctl route set web --path-prefix /api --retries 3 --retry-on 5xx,reset',
    'meshctl route set db --to v2 --sni db2.example.com',
    'meshctl route set web --to v1=50,v2=50 --dry-run -o yaml',
  ])
  set.action(async (service: string, flags: SetFlags) =>
    (await import('../routing.ts')).setRoutes(cli, service, flags),
  )

  const get = subcommand(parent, 'get <service>').description('Prints the rules of one service, in order.')
  get.option('-n, --namespace <name>', 'of the service')
  outputOption(get).action(async (service: string, flags: { output: Format; namespace?: string }) =>
    (await import('../routing.ts')).getRoutes(cli, service, flags),
  )

  const list = subcommand(parent, 'list').description('Prints the rules of all services.')
  list.option('-n, --namespace <name>', 'of one namespace only')
  outputOption(list).action(async (flags: { output: Format; namespace?: string }) =>
    (await import('../routing.ts')).listRoutes(cli, flags),
  )

  const unset = subcommand(parent, 'unset <service>').description(
    'Takes out the rule with this match or name; without either, all rules of the\nservice, so that its instances share the requests again.',
  )
  addMatchOptions(unset)
  unset
    .optionsGroup('How:')
    .option('--dry-run', 'show the difference, write nothing', false)
    .option('-y, --yes', 'do not ask', false)
  examples(unset, ["meshctl route unset web --header 'x-canary=true'", 'meshctl route unset web --yes'])
  unset.action(async (service: string, flags: UnsetFlags) =>
    (await import('../routing.ts')).unsetRoutes(cli, service, flags),
  )
}

function addMatchOptions(command: Command): void {
  command
    .optionsGroup('Which requests (all must hold):')
    .option('--path <path>', 'exactly this path')
    .option('--path-prefix <prefix>', 'paths that begin so')
    .option('--path-regex <regex>', 'paths that match as a whole (RE2)')
    .option('--method <method>', 'GET, POST …')
    .option('--authority <host>', 'the Host header')
    .option('--header <match>', 'name=value, name^=prefix, name~=regex, name', collect)
    .option('--without-header <match>', 'the opposite', collect)
    .option('--query <match>', 'of the query string', collect)
    .option('--port <port>', 'port of the service', readPort)
    .option('--sni <name>', 'server name of TLS passed through: db.test, *.test', collect)
    .option('--rule <name>', 'name of the rule')
    .option('-n, --namespace <name>', 'of the service')
}
