// Every certificate that matters and the time it has left. Reads what it can: expired ones are what it is for.
import type { HostRecord } from '../api/signer.ts'
import { systemClock } from '../clock.ts'
import { Exit, MeshError, reason } from '../errors.ts'
import { ageText } from '../model/duration.ts'
import { readCertificates, type Certificate } from '../pki/cert.ts'
import { connectRegistry } from '../registry/client.ts'
import type { Cli } from './cli.ts'
import { contextStore, meshFiles, type ContextStore, type MeshContext } from './context.ts'
import { printList, type Format } from './output.ts'
import { readReports } from './reports.ts'
import { openSigner } from './session.ts'

export type Runway = 'ok' | 'soon' | 'expired' | 'unknown'

export interface CertificateRow {
  readonly kind: 'root' | 'issuing' | 'operator' | 'host'
  readonly name: string
  /** Milliseconds since the epoch; null: not known. */
  readonly notBefore: number | null
  readonly notAfter: number | null
  readonly state: Runway
  readonly hint: string
}

const day = 86_400_000

export async function printCertificates(cli: Cli, format: Format): Promise<void> {
  const now = systemClock.now()
  const rows = await readRows(cli, now)
  const paint = cli.terminal.paint
  const color = { ok: paint.green, soon: paint.yellow, expired: paint.red, unknown: paint.dim }
  printList(cli.terminal, format, {
    kind: 'CertificateList',
    rows,
    columns: [
      { title: 'CERTIFICATE', value: (row) => row.kind },
      { title: 'NAME', value: (row) => row.name, shrink: true },
      { title: 'ENDS', value: (row) => (row.notAfter === null ? '-' : stamp(row.notAfter)) },
      { title: 'LEFT', value: (row) => left(row.notAfter, now), right: true },
      { title: 'STATE', value: (row) => row.state, paint: (text, row) => color[row.state](text) },
      { title: 'FIX', value: (row) => row.hint, wide: true },
    ],
    name: (row) => `${row.kind}/${row.name}`,
    json: (row) => ({
      ...row,
      notBefore: row.notBefore === null ? null : new Date(row.notBefore).toISOString(),
      notAfter: row.notAfter === null ? null : new Date(row.notAfter).toISOString(),
      leftSeconds: row.notAfter === null ? null : Math.round((row.notAfter - now) / 1000),
    }),
    empty: 'no certificates',
  })
  const bad = rows.filter((row) => row.state === 'soon' || row.state === 'expired')
  if (format === 'table') for (const row of bad) cli.terminal.say(`${row.kind} ${row.name}: ${row.hint}`)
  if (bad.length > 0) cli.exit(Exit.findings)
}

export async function readRows(cli: Cli, now: number): Promise<CertificateRow[]> {
  const store = contextStore(cli)
  const { name, context } = await store.choose(cli.globals().context)
  const roots = await store.readFile(name, meshFiles.roots)
  const chain = await store.readFile(name, meshFiles.operatorChain)
  const [leaf, ...between] = readCertificates(chain)
  const renewRoot = 'a new root must be spread to every host before this one ends'
  const renewOperator = 'renews itself with the next command that reaches control'
  const control = await askControl(cli, store, name, context)
  return [
    ...readCertificates(roots).map((root) => row('root', root.subject, root, now, renewRoot)),
    ...issuingRows(control, between, now),
    ...(leaf === undefined ? [] : [row('operator', context.operator, leaf, now, renewOperator)]),
    ...(await hostRows(cli, store, name, context, control?.hosts ?? [], now)),
  ]
}

interface Control {
  readonly issuingNotAfter: number
  readonly hosts: readonly HostRecord[]
}

/** Null: control is away; then the files of this operator and the registry have to do. */
async function askControl(
  cli: Cli,
  store: ContextStore,
  name: string,
  context: MeshContext,
): Promise<Control | null> {
  try {
    const signer = await openSigner(store, name, context, (text) => cli.terminal.say(text))
    return {
      issuingNotAfter: Date.parse((await signer.status()).issuingNotAfter),
      hosts: await signer.hosts(),
    }
  } catch (error) {
    if (!(error instanceof MeshError)) throw error
    cli.terminal.say(`warning: ${error.message}; the issuing certificate shown is the one this operator has`)
    return null
  }
}

function issuingRows(
  control: Control | null,
  between: readonly Certificate[],
  now: number,
): CertificateRow[] {
  const hint = 'meshctl init MESH again makes a new issuing certificate (needs the root key)'
  const own = between.map((one) => row('issuing', one.subject, one, now, hint))
  if (control === null) return own
  const notAfter = control.issuingNotAfter
  const known = own.find((one) => one.notAfter === notAfter)
  if (known !== undefined) return [known]
  const state = notAfter <= now ? 'expired' : notAfter - now < 30 * day ? 'soon' : 'ok'
  return [
    {
      kind: 'issuing',
      name: 'of control',
      notBefore: null,
      notAfter,
      state,
      hint: state === 'ok' ? '' : hint,
    },
  ]
}

async function hostRows(
  cli: Cli,
  store: ContextStore,
  name: string,
  context: MeshContext,
  records: readonly HostRecord[],
  now: number,
): Promise<CertificateRow[]> {
  const registry = connectRegistry(await store.registryConfig(name, context))
  try {
    return (await readReports(registry, context.mesh)).map(({ host, certificateNotAfter }) => {
      const notAfter = certificateNotAfter > 0 ? certificateNotAfter : null
      const renewedAt = Date.parse(records.find((record) => record.host === host)?.renewedAt ?? '')
      const notBefore = Number.isNaN(renewedAt) ? null : renewedAt
      const state = runway(notBefore, notAfter, now)
      const fix = `meshctl agent renew on ${host}; meshctl logs ${host} --agent says why it was not`
      return {
        kind: 'host',
        name: host,
        notBefore,
        notAfter,
        state,
        hint: state === 'soon' || state === 'expired' ? fix : '',
      }
    })
  } catch (error) {
    cli.terminal.say(`warning: ${reason(error)}; certificates of hosts are not shown`)
    return []
  } finally {
    registry.close()
  }
}

function row(
  kind: CertificateRow['kind'],
  name: string,
  certificate: Certificate,
  now: number,
  hint: string,
): CertificateRow {
  const { notBefore, notAfter } = certificate
  const state = runway(notBefore, notAfter, now)
  return { kind, name, notBefore, notAfter, state, hint: state === 'ok' ? '' : hint }
}

/** Renewal begins at half of a life: with less than a quarter left it has failed for long. */
export function runway(notBefore: number | null, notAfter: number | null, now: number): Runway {
  if (notAfter === null) return 'unknown'
  if (notAfter <= now) return 'expired'
  return notBefore !== null && notAfter - now < (notAfter - notBefore) / 4 ? 'soon' : 'ok'
}

function left(notAfter: number | null, now: number): string {
  if (notAfter === null) return '-'
  return notAfter > now ? ageText(notAfter - now) : `-${ageText(now - notAfter)}`
}

function stamp(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 16).replace('T', ' ')}Z`
}
