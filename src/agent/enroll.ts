// `agent enroll`: the host's half of a join. Keys are made here and never leave; the grant comes on standard input,
// because arguments can be read by every user of the machine.
import type { KeyObject } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { dirname } from 'node:path'
import { connectSigner } from '../api/client.ts'
import { MeshError } from '../errors.ts'
import { isRecord } from '../model/problem.ts'
import { makeRequest } from '../pki/csr.ts'
import { makeKey } from '../pki/key.ts'
import type { Paths } from '../paths.ts'
import { holdersOf, Keyring } from './keyring.ts'

export interface EnrollInput {
  readonly grant: string
  /** `https://control:15012`, one or more. */
  readonly signers: readonly string[]
  /** PEM bundle that control must chain to. */
  readonly roots: string
  readonly mesh: string
  readonly trustDomain: string
  readonly host: string
  readonly services: readonly { readonly name: string; readonly namespace: string }[]
}

export interface EnrollOutput {
  readonly registryToken: string | null
}

/** Reads standard input's JSON. Throws MSH0605 with the name of what is missing. */
export function readEnrollInput(text: string): EnrollInput {
  let given: unknown
  try {
    given = JSON.parse(text)
  } catch (error) {
    // The text holds the grant: it must not be in the message.
    throw new MeshError('MSH0605', 'enroll: standard input is not JSON', { cause: error })
  }
  if (!isRecord(given)) throw new MeshError('MSH0605', 'enroll: standard input is not an object')
  for (const field of ['grant', 'roots', 'mesh', 'trustDomain', 'host']) {
    if (typeof given[field] !== 'string' || given[field] === '') throw missing(field)
  }
  if (!Array.isArray(given['signers']) || given['signers'].length === 0) throw missing('signers')
  if (!Array.isArray(given['services'])) throw missing('services')
  return given as unknown as EnrollInput
}

/**
 * Idempotent up to the grant: keys that are there are kept, so that a second try after a lost reply asks for the same
 * ones. Everything is written only after control has agreed.
 */
export async function enroll(
  input: EnrollInput,
  paths: Pick<Paths, 'identity' | 'roots'>,
  connect: typeof connectSigner = connectSigner,
): Promise<EnrollOutput> {
  const keyring = new Keyring(paths)
  const holders = holdersOf(input.trustDomain, input.host, input.services)
  const keys: KeyObject[] = []
  for (const holder of holders) {
    const kept = await keyring.key(holder).catch(() => null)
    const key = kept ?? makeKey()
    if (kept === null) await keyring.storeKey(holder, key)
    keys.push(key)
  }
  const signer = connect({ urls: input.signers, roots: input.roots, trustDomain: input.trustDomain })
  const csrs = holders.map((holder, at) => makeRequest(keys[at] ?? makeKey(), holder.spiffe))
  const reply = await signer.join(input.grant, { host: input.host, csrs })
  await mkdir(dirname(paths.roots), { recursive: true, mode: 0o755 })
  await keyring.storeRoots(reply.roots)
  for (const [at, holder] of holders.entries()) {
    const key = keys[at]
    const chain = reply.chains[at]
    if (key === undefined || chain === undefined) {
      throw new MeshError('MSH0603', `control sent no certificate for ${holder.spiffe}`)
    }
    await keyring.store(holder, key, chain)
  }
  return { registryToken: reply.registryToken }
}

function missing(field: string): MeshError {
  return new MeshError('MSH0605', `enroll: "${field}" is missing on standard input`)
}

/** All of a stream as text, at most 1 MiB. */
export async function readAll(stream: AsyncIterable<Buffer | string>): Promise<string> {
  let text = ''
  for await (const part of stream) {
    text += String(part)
    if (text.length > 1 << 20) throw new MeshError('MSH0605', 'enroll: standard input is too long')
  }
  return text
}
