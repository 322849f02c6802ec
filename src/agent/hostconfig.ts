// Reads /etc/meshctl/host.json, which join wrote.
import { readFile } from 'node:fs/promises'
import { MeshError, reason } from '../errors.ts'
import type { HostConfig } from '../model/host.ts'
import { isRecord } from '../model/problem.ts'

const texts = ['mesh', 'trustDomain', 'host', 'address', 'dns'] as const
const lists = ['signers', 'services'] as const
const objects = ['registry', 'capture'] as const

/** Throws MSH0605 with what is wrong. The command line has checked the content; this guards against a damaged file. */
export async function readHostConfig(path: string): Promise<HostConfig> {
  let given: unknown
  try {
    given = JSON.parse(await readFile(path, 'utf8'))
  } catch (error) {
    // A JSON error quotes the text, which holds the registry's token.
    const isAbsent = error instanceof Error && 'code' in error && error.code === 'ENOENT'
    const why =
      error instanceof SyntaxError
        ? 'not JSON'
        : isAbsent
          ? 'is not there: this host is not joined'
          : reason(error)
    throw new MeshError('MSH0605', `${path}${isAbsent ? '' : ':'} ${why}`, { hint: 'meshctl join' })
  }
  if (!isRecord(given)) throw new MeshError('MSH0605', `${path}: not an object`)
  const wrong: string[] = [
    ...texts.filter((field) => typeof given[field] !== 'string'),
    ...lists.filter((field) => !Array.isArray(given[field])),
    ...objects.filter((field) => !isRecord(given[field])),
  ]
  if (given['schema'] !== 1) wrong.unshift('schema')
  if (wrong.length > 0) throw new MeshError('MSH0605', `${path}: missing or wrong: ${wrong.join(', ')}`)
  return given as unknown as HostConfig
}
