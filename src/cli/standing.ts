// What control and the agent think of a joined host, for `meshctl check host`: a host may serve well and still have no
// future, because control has revoked it or because its agent has lost the registry.
import { MeshError } from '../errors.ts'
import { quote, type Host } from '../host/host.ts'
import { pathsUnder } from '../paths.ts'
import type { ContextStore } from './context.ts'
import type { Findings } from './finding.ts'
import { openSigner } from './session.ts'

/** Asks control, where this machine operates the mesh of the host; elsewhere there is nobody to ask. */
export async function checkStanding(
  store: ContextStore,
  joined: { readonly mesh: string; readonly host: string },
  findings: Findings,
  say: (text: string) => void,
): Promise<void> {
  const { contexts } = await store.read()
  const known = Object.entries(contexts).find(([, { mesh }]) => mesh === joined.mesh)
  // Without a name it is the remains of a join.
  if (known === undefined || joined.host === '') return
  const again = `meshctl join ${joined.host} puts it back; meshctl leave ${joined.host} takes it out for good`
  try {
    const signer = await openSigner(store, ...known, say)
    const record = (await signer.hosts()).find(({ host }) => host === joined.host)
    if (record === undefined) findings.error('join', 'control', `does not know ${joined.host}`, again)
    else if (record.revoked) {
      const means = 'it gets no new certificates and the registry refuses it'
      findings.error('join', 'control', `has revoked ${joined.host}: ${means}`, again)
    } else findings.ok('join', 'control', `signs for ${joined.host}`)
  } catch (error) {
    if (!(error instanceof MeshError)) throw error
    findings.warn('join', 'control', error.message, error.hint ?? 'meshctl check')
  }
}

/** What the agent reports of itself. `told`: lines that were found already. */
export async function checkReport(host: Host, findings: Findings, told: readonly string[]): Promise<void> {
  const command = `${quote(pathsUnder().command)} agent report --verbose`
  const { status, stdout, stderr } = await host.run(command, { root: true, timeoutMs: 30_000 })
  const lines = `${stdout}\n${stderr}`.split('\n').filter((line) => line.trim() !== '')
  // Findings are indented; the rest is what is as it should be, except a registry that was never reached.
  const problems = lines.filter((line) => line.startsWith('  ')).map((line) => line.trim())
  const away = lines.some((line) => !line.startsWith(' ') && line.endsWith('registry away'))
  if (away && !problems.some((line) => line.startsWith('registry away')))
    problems.push('registry away: it was never reached since the agent started')
  if (status !== 0 && problems.length === 0)
    problems.push(bare(lines[0]) || `agent report ended with ${status}`)
  const fresh = problems.filter((line) => !told.some((one) => one.includes(line)))
  for (const line of fresh.slice(0, 10)) findings.error('agent', 'report', line, hintFor(line))
  if (problems.length === 0)
    findings.ok('agent', 'report', 'nothing to complain of; the registry is connected')
}

/** Without the name of the program and the code. */
function bare(line: string = ''): string {
  return line.replace(/^meshctl agent: /, '').replace(/ \[MSH\d+\]$/, '')
}

function hintFor(line: string): string {
  if (line.startsWith('registry away'))
    return 'meshctl check says whether the registry answers; if it does: meshctl logs HOST --agent, or it refuses this host'
  if (/certificate|expired/.test(line)) return 'meshctl agent renew --verbose on the host says why'
  if (line.startsWith('service ')) return 'the service itself does not pass its check: look at its own log'
  return 'meshctl logs HOST --agent says more'
}
