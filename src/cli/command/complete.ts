// `meshctl __complete -- WORDS…`: candidates for the last word, one a line. Never fails and never asks: a shell waits.
import type { Command, Option } from 'commander'
import { errorCodes } from '../../errors.ts'
import { kinds } from '../../model/resource.ts'
import { makeCommand, subcommand, type Cli } from '../cli.ts'
import { verbs } from '../verbs.ts'

type Names = 'services' | 'hosts' | 'contexts' | 'codes' | 'kinds' | 'objects' | 'versions'

// What stands behind which command, by position.
const positions: Readonly<Record<string, readonly Names[]>> = {
  'check host': ['hosts'],
  'context remove': ['contexts'],
  'context use': ['contexts'],
  'leave host': ['hosts'],
  'route get': ['services'],
  'route set': ['services'],
  'route unset': ['services'],
  delete: ['kinds', 'objects'],
  explain: ['codes'],
  get: ['kinds', 'objects'],
  leave: ['hosts'],
  logs: ['hosts'],
}

const optionValues: Readonly<Record<string, Names>> = { '--context': 'contexts', '--to': 'versions' }

export function register(program: Command, cli: Cli): void {
  const command = subcommand(program, '__complete [words...]')
  command.allowUnknownOption().action(async (words: string[]) => {
    const found = await candidates(words, cli).catch(() => [])
    const last = words.at(-1) ?? ''
    for (const word of [...new Set(found)].toSorted()) if (word.startsWith(last)) cli.terminal.out(word)
  })
}

async function candidates(words: readonly string[], cli: Cli): Promise<string[]> {
  const before = words.slice(0, -1)
  const last = words.at(-1) ?? ''
  const name = before.find(
    (word, at) => !word.startsWith('-') && !/^--(context|config)$/.test(before[at - 1] ?? ''),
  )
  if (before.at(-1) === '--context') return await names('contexts', [], cli)
  const verb = verbs.find(
    (one) => one.name === name || (name !== undefined && one.aliases?.includes(name) === true),
  )
  if (verb === undefined) {
    if (last.startsWith('-')) return ['--context', '--config', '--help', '--verbose', '--version']
    return verbs.flatMap((one) => (one.hidden === true ? [] : [one.name]))
  }
  const root = makeCommand('meshctl')
  ;(await verb.load()).register(root, cli)
  const rest = before.slice(before.indexOf(name ?? '') + 1)
  return await within(
    root.commands.find((one) => one.name() === verb.name),
    rest,
    last,
    cli,
  )
}

async function within(
  top: Command | undefined,
  words: readonly string[],
  last: string,
  cli: Cli,
): Promise<string[]> {
  if (top === undefined) return []
  let command = top
  let path = top.name()
  const given: string[] = []
  let waiting: Option | null = null
  for (const word of words) {
    if (waiting !== null) waiting = null
    else if (word.startsWith('-')) {
      const option = findOption(command, word)
      if (option !== undefined && option.required && !word.includes('=')) waiting = option
    } else {
      const below = given.length === 0 ? command.commands.find((one) => one.name() === word) : undefined
      if (below === undefined) given.push(word)
      else {
        command = below
        path = `${path} ${word}`
      }
    }
  }
  if (waiting !== null) {
    if (waiting.argChoices !== undefined) return waiting.argChoices
    const kind = optionValues[waiting.long ?? '']
    return kind === undefined ? [] : await names(kind, given, cli, last)
  }
  if (last.startsWith('-')) return [...command.options.flatMap((option) => option.long ?? []), '--help']
  const subs = given.length === 0 ? command.commands.map((one) => one.name()) : []
  const choices = command.registeredArguments[given.length]?.argChoices ?? []
  const kind = positions[path]?.[given.length] ?? (positions[path]?.[0] === 'hosts' ? 'hosts' : undefined)
  return [...subs, ...choices, ...(kind === undefined ? [] : await names(kind, given, cli, last))]
}

function findOption(command: Command, word: string): Option | undefined {
  const flag = word.split('=')[0]
  return command.options.find((option) => option.long === flag || option.short === flag)
}

async function names(kind: Names, given: readonly string[], cli: Cli, last: string = ''): Promise<string[]> {
  if (kind === 'codes') return [...errorCodes]
  if (kind === 'kinds') return [...kinds]
  if (kind === 'contexts') {
    const { contextStore } = await import('../context.ts')
    return Object.keys((await contextStore(cli).read()).contexts)
  }
  const { liveNames } = await import('../names.ts')
  return await liveNames(cli, kind, given, last)
}
