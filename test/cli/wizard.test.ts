// The questions of `meshctl init`, on a real terminal.
import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { ctrlC, down, enter, Pty } from './pty.ts'

const main = join(import.meta.dirname, '../../src/cli/main.ts')
const folder = mkdtempSync(join(tmpdir(), 'meshctl-wizard-'))
after(() => rmSync(folder, { recursive: true }))

function meshctl(...args: readonly string[]): Pty {
  return new Pty([process.execPath, '--disable-warning=ExperimentalWarning', main, ...args], {
    MESHCTL_CONFIG: folder,
  })
}

test('every question of init, wrong answers, the plan', async () => {
  using pty = meshctl('init', '--name', 'ann', '--dry-run')
  // The suggestion goes at the first key.
  await pty.answer(/name of the mesh \(mesh\)/, 'No_Name', enter)
  await pty.answer(/must be lowercase/, '\u0015', 'prod', enter)
  await pty.answer(/where shall control run\?[^]*another machine/, down, enter)
  await pty.answer(/which machine\? \[user@\]host/, enter)
  await pty.answer(/must not be empty/, 'root@10.9.8.7', enter)
  await pty.answer(/address at which hosts reach control \(10\.9\.8\.7\)/, enter)
  await pty.answer(/where shall services be registered\?[^]*Consul/, down, enter)
  await pty.answer(/URL of the Consul cluster/, 'c1:8501', enter)
  await pty.answer(/must be an http or https URL/, '\u0015', 'https://c1:8501', enter)
  assert.equal(await pty.end(), 0, pty.shown)
  const plan = pty.shown.slice(pty.shown.indexOf('kind: InitPlan'))
  for (const line of [
    'mesh: prod',
    'trustDomain: prod.mesh',
    'operator: ann',
    'control: root@10.9.8.7',
    'controlAddress: 10.9.8.7',
    'registry: consul',
    'consulUrl: https://c1:8501',
  ]) {
    assert.ok(plan.includes(line), `${line} in\n${pty.shown}`)
  }
})

test('no, and Ctrl-C in any question: nothing was changed', async () => {
  const flags = ['init', 'demo', '--control', 'local', '--control-address', '10.0.0.1', '--name', 'ann']
  {
    using pty = meshctl(...flags, '--registry', 'embedded')
    await pty.answer(/make this mesh\? \(y\/N\)/, enter)
    assert.equal(await pty.end(), 1)
    assert.match(pty.shown, /aborted, no changes made\n/)
  }
  {
    using pty = meshctl(...flags)
    await pty.answer(/where shall services be registered/, ctrlC)
    assert.equal(await pty.end(), 1)
    assert.match(pty.shown, /aborted, no changes made\n/)
  }
  {
    using pty = meshctl(...flags, '--registry', 'embedded')
    await pty.answer(/make this mesh/, 'y', enter)
    await pty.answer(/passphrase for the root key \(empty: do not encrypt it\)/, 'short', enter)
    await pty.answer(/must have at least 8 characters/, '\u0015', 'Correct-Horse', enter)
    await pty.answer(/once more/, 'Correct-Hores', enter)
    await pty.answer(/differs from the first/, ctrlC)
    assert.equal(await pty.end(), 1)
    assert.doesNotMatch(pty.shown, /Correct|Hores/)
  }
  assert.equal(existsSync(join(folder, 'demo')), false)
})
