import assert from 'node:assert/strict'
import {
  appendFileSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { Chalk } from 'chalk'
import type { ControlConfig } from '../../src/api/signer.ts'
import {
  ensureOperator,
  ensureRoot,
  issueBelow,
  refuseForeign,
  type Present,
} from '../../src/cli/authority.ts'
import type { Cli } from '../../src/cli/cli.ts'
import type { InitFlags } from '../../src/cli/command/init.ts'
import { watched } from '../../src/cli/command/logs.ts'
import { ContextStore } from '../../src/cli/context.ts'
import { printDiff } from '../../src/cli/diff.ts'
import { checkJoinFlags, nodeName, type JoinFlags } from '../../src/cli/hostplan.ts'
import { Progress } from '../../src/cli/progress.ts'
import { hostPart, sshWords, type SshFlags } from '../../src/cli/remote.ts'
import { layTable } from '../../src/cli/table.ts'
import type { Terminal } from '../../src/cli/terminal.ts'
import type { InitPlan } from '../../src/cli/wizard.ts'
import { FakeClock } from '../../src/clock.ts'
import type { HostFacts } from '../../src/host/facts.ts'
import { LocalHost } from '../../src/host/local.ts'
import { keyPem } from '../../src/pki/key.ts'
import { readRoots, verifyChain } from '../../src/pki/trust.ts'
import { until } from '../agent/running.ts'

function listener(): { terminal: Terminal; said: string[] } {
  const said: string[] = []
  const paint = new Chalk({ level: 0 })
  const terminal: Terminal = {
    out: () => {},
    say: (text) => said.push(text),
    interactive: false,
    live: false,
    width: 80,
    paint,
    paintTalk: paint,
    symbols: { ok: 'ok', warn: '!!', bad: 'xx', dot: '-' },
    env: {},
    aside: (ask) => ask(),
  }
  return { terminal, said }
}

test('tables shrink what may shrink and never print control characters', () => {
  const rows = [
    { a: 'short', b: `long ${'x'.repeat(90)}` },
    { a: 'evil\u001B[2J\nline', b: 'b' },
  ]
  const columns = [
    { title: 'A', value: (row: { a: string }) => row.a },
    { title: 'B', value: (row: { b: string }) => row.b, shrink: true },
  ]
  const lines = layTable(columns, rows, 40)
  assert.ok(lines.every((line) => line.length <= 40))
  assert.equal(lines[1]?.endsWith('…'), true)
  assert.equal(lines[2]?.startsWith('evil [2J line'), true)
  assert.equal(layTable(columns, rows, 0)[1]?.length, 110)
})

test('diffs show changes with three lines around', () => {
  const before = Array.from({ length: 20 }, (_, index) => `line ${index}`)
  const after = before.with(10, 'new')
  assert.deepEqual(printDiff(before.join('\n'), after.join('\n')), [
    '  line 7',
    '  line 8',
    '  line 9',
    '- line 10',
    '+ new',
    '  line 11',
    '  line 12',
    '  line 13',
  ])
  assert.deepEqual(printDiff('a\n', 'a\n'), [])
  assert.deepEqual(printDiff('', 'a\nb\n'), ['+ a', '+ b'])
})

test('progress is plain lines where there is no terminal', () => {
  const { terminal, said } = listener()
  const clock = new FakeClock()
  const progress = new Progress(terminal, clock)
  const one = progress.line('vm1')
  const two = progress.line('vm2')
  one.step('upload', '0 of 40 MB')
  one.detail('20 of 40 MB')
  clock.advance(1500)
  two.step('connect')
  one.end('done', 'joined')
  two.end('failed', 'no\nroute')
  progress.close()
  assert.deepEqual(said, [
    'vm1: upload - 0 of 40 MB',
    'vm2: connect',
    'vm1: done - joined (1.5s)',
    'vm2: failed connect - no route (1.5s)',
  ])
})

test('names and flags of hosts', () => {
  const facts = { hostname: 'Box.example.com' } as HostFacts
  assert.equal(nodeName('root@vm1.example.com:2222', undefined, facts), 'vm1')
  assert.equal(nodeName('10.0.0.7', undefined, facts), 'box')
  assert.equal(nodeName('local', undefined, facts), 'box')
  assert.equal(nodeName('vm1', 'db', facts), 'db')
  assert.throws(() => nodeName('10.0.0.7', undefined, { hostname: 'localhost' } as HostFacts), {
    code: 'MSH0101',
  })
  assert.deepEqual(['root@[fd00::1]:22', 'fd00::1', 'a@b:22', 'b'].map(hostPart), [
    'fd00::1',
    'fd00::1',
    'b',
    'b',
  ])
  const flags: JoinFlags = {
    capture: 'mesh',
    inbound: true,
    dns: 'auto',
    consulAgent: 'auto',
    accessLog: true,
  }
  checkJoinFlags({ ...flags, excludeCidr: ['10.0.0.0/8', 'fd00::/16'], upstream: ['web', 'db.shop'] }, [
    'vm1',
    'vm2',
  ])
  assert.throws(() => checkJoinFlags(flags, ['vm1', 'vm1']), /named twice/)
  const ssh: SshFlags = {
    hostKeyCheck: 'accept-new',
    printCommand: false,
    port: 2222,
    user: 'ann',
    knownHosts: ['/k h'],
  }
  assert.deepEqual(sshWords('root@vm1', ssh), [
    'ssh',
    '-p',
    '2222',
    '-o',
    'UserKnownHostsFile=/k h',
    '-o',
    'StrictHostKeyChecking=accept-new',
    'ann@vm1',
  ])
  const plain: SshFlags = { hostKeyCheck: 'strict', printCommand: false }
  assert.deepEqual(sshWords('root@[fd00::1]:2222', plain), ['ssh', '-p', '2222', 'root@fd00::1'])
  assert.deepEqual(sshWords('vm1', plain), ['ssh', 'vm1'])
})

test('init makes root, issuing CA and operator once, and takes them up again', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'meshctl-init-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const store = new ContextStore(folder, {})
  const { terminal } = listener()
  const cli = { terminal } as Cli
  const plan: InitPlan = {
    schema: 1,
    mesh: 'demo',
    trustDomain: 'demo.mesh',
    operator: 'ann',
    control: 'local',
    controlAddress: '10.0.0.1',
    registry: 'embedded',
    consulUrl: null,
    leafSeconds: null,
  }
  const flags = { passphrase: false } as InitFlags
  const root = await ensureRoot(cli, store, plan, flags)
  assert.equal((await ensureRoot(cli, store, plan, flags)).pem, root.pem)
  assert.equal(statSync(join(folder, 'demo/root.key')).mode & 0o777, 0o600)

  const open = () => root.open(terminal)
  const issuer = await issueBelow(plan, null, open)
  await ensureOperator(store, plan, issuer)
  const chain = readFileSync(join(folder, 'demo/operator.pem'), 'utf8')
  const leaf = verifyChain(chain, readRoots(root.pem), { now: Date.now() })
  assert.deepEqual(leaf.names.uris, ['spiffe://demo.mesh/operator/ann'])
  await ensureOperator(store, plan, issuer)
  assert.equal(readFileSync(join(folder, 'demo/operator.pem'), 'utf8'), chain)

  // What control has is kept while half of its life is left; a damaged pair is replaced.
  const config = { mesh: 'demo', trustDomain: 'demo.mesh' } as ControlConfig
  const present: Present = {
    config,
    roots: root.pem,
    issuing: issuer.certificate.pem,
    issuingKey: keyPem(issuer.key),
  }
  const closed = (): never => assert.fail('the root key was needed')
  const kept = await issueBelow(plan, present, closed)
  assert.equal(kept.certificate.fingerprint, issuer.certificate.fingerprint)
  const fresh = await issueBelow(plan, { ...present, issuingKey: '' }, open)
  assert.notEqual(fresh.certificate.fingerprint, issuer.certificate.fingerprint)
  await ensureOperator(store, plan, fresh)
  assert.notEqual(readFileSync(join(folder, 'demo/operator.pem'), 'utf8'), chain)

  // Never over another mesh.
  refuseForeign(plan, present, root.pem)
  const other = await ensureRoot(cli, store, { ...plan, mesh: 'two' }, flags)
  assert.throws(() => refuseForeign(plan, present, other.pem), { code: 'MSH0107' })
  assert.throws(() => refuseForeign({ ...plan, mesh: 'two' }, present, root.pem), { code: 'MSH0107' })
})

test('the passphrase of the root key: needed only to sign, a wrong one is said to be wrong', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'meshctl-passphrase-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const store = new ContextStore(folder, {})
  const { terminal } = listener()
  const cli = { terminal } as Cli
  const plan = { mesh: 'demo', trustDomain: 'demo.mesh' } as InitPlan
  const file = (text: string): InitFlags => {
    writeFileSync(join(folder, 'phrase'), text)
    return { passphraseFile: join(folder, 'phrase') } as InitFlags
  }
  await assert.rejects(ensureRoot(cli, store, plan, file('short\n')), { code: 'MSH0101' })
  const made = await ensureRoot(cli, store, plan, file('Correct-Horse\n'))
  assert.match(readFileSync(join(folder, 'demo/root.key'), 'utf8'), /BEGIN ENCRYPTED/)

  // Nothing is asked, so nothing has to be answered, until something must be signed.
  const again = await ensureRoot(cli, store, plan, {} as InitFlags)
  assert.equal(again.pem, made.pem)
  await assert.rejects(again.open(terminal), { code: 'MSH0101', message: /--passphrase-file is needed/ })
  const wrong = await ensureRoot(cli, store, plan, file('Wrong-Horse\n'))
  await assert.rejects(wrong.open(terminal), {
    code: 'MSH0416',
    message: /wrong passphrase for the root key/,
  })
  const right = await ensureRoot(cli, store, plan, file('Correct-Horse\n'))
  assert.equal((await right.open(terminal)).certificate.pem, made.pem)
})

test('logs -f: lines as they come; the end of our side ends it there', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'meshctl-logs-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const file = join(folder, 'access.log')
  writeFileSync(file, 'one\n')
  const host = new LocalHost()
  const stop = new AbortController()
  let shown = ''
  const pids = join(folder, 'pids')
  const line = watched(`sh -c 'echo $$ > ${pids}; exec tail -n 5 -F ${file}'`)
  const following = host.run(line, { signal: stop.signal, onStdout: (chunk) => (shown += chunk.toString()) })
  const ended = assert.rejects(following, { code: 'MSH0507' })
  await until('the first line', () => shown === 'one\n')
  appendFileSync(file, 'two\n')
  await until('the second line', () => shown === 'one\ntwo\n')
  const pid = readFileSync(pids, 'utf8').trim()
  stop.abort()
  await ended
  await until('tail to be gone', () => !existsSync(`/proc/${pid}`))

  // Its own end is the end too, with its status.
  const broken = await host.run(watched("sh -c 'echo no such file >&2; exit 3'"), { onStdout: () => {} })
  assert.deepEqual([broken.status, broken.stderr], [3, 'no such file\n'])
})

test('contexts: written 0600, chosen, removed', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'meshctl-context-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const store = new ContextStore(folder, {})
  await assert.rejects(store.choose(undefined), { code: 'MSH0103' })
  const context = {
    mesh: 'demo',
    trustDomain: 'demo.mesh',
    operator: 'ann',
    signers: ['https://10.0.0.1:15012'],
    registry: { kind: 'consul', url: 'https://c:8501', token: 'secret', ca: 'system', spiffe: null },
    control: { kind: 'local' },
    createdAt: '',
  } as const
  await store.write('demo', context)
  await store.write('two', { ...context, mesh: 'two' })
  assert.equal(statSync(store.file).mode & 0o777, 0o600)
  assert.equal((await store.choose(undefined)).name, 'two')
  assert.equal((await store.choose('demo')).context.mesh, 'demo')
  await assert.rejects(store.choose('dmo'), { code: 'MSH0103' })
  await store.use('demo')
  await store.remove('demo')
  assert.equal((await store.choose(undefined)).name, 'two')
})
