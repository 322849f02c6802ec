import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { verbs } from '../../src/cli/verbs.ts'
import { run } from './place.ts'

const folder = mkdtempSync(join(tmpdir(), 'meshctl-usage-'))
after(() => rmSync(folder, { recursive: true }))
const env = { MESHCTL_CONFIG: folder }
const own = verbs.filter(({ group, hidden }) => !group.startsWith('On a host') && hidden !== true)

test('help of every command: on standard output, 80 columns, with examples and no colour', async () => {
  const top = await run(['--help'], { env })
  const golden = join(import.meta.dirname, '../golden/cli-help.txt')
  if (process.env['UPDATE_GOLDEN'] === '1') writeFileSync(golden, top.out)
  assert.equal(top.out, readFileSync(golden, 'utf8'))
  const helps = await Promise.all(
    own.map(async ({ name }) => ({ name, ...(await run([name, '--help'], { env })) })),
  )
  for (const { name, status, out, err } of [{ name: '', ...top }, ...helps]) {
    assert.equal(status, 0, name)
    assert.equal(err, '', name)
    assert.deepEqual(
      out.split('\n').filter((line) => line.length > 80),
      [],
      name,
    )
    assert.match(out, name === '' ? /First steps/ : /Examples:\n {2}\$ (source <\()?meshctl/, name)
    assert.equal(out.includes('\u001B'), false, name)
  }
})

test('help of the parts is theirs: readable, status 0', async () => {
  const parts = ['agent', 'proxy', 'control']
  const helps = await Promise.all(
    parts.map(async (name) => ({ name, ...(await run([name, '--help'], { env })) })),
  )
  for (const { name, status, out, err } of helps) {
    assert.deepEqual([status, err], [0, ''], name)
    assert.match(out, new RegExp(`^usage: meshctl ${name} .*\\n[^{]*$`), name)
    assert.deepEqual(
      out.split('\n').filter((line) => line.length > 84),
      [],
      name,
    )
  }
})

test('bad usage: status 64, what, how to mend it, and a code', async () => {
  const table: [string[], RegExp][] = [
    [['jion'], /unknown command "jion"\n {2}fix {3}did you mean "join"\?\n {2}code {2}MSH0101/],
    [
      ['route', 'set', 'web', '--tmeout', '2s'],
      /unknown option "--tmeout"\n {2}fix {3}did you mean --timeout\?/,
    ],
    [['route', 'set'], /missing required argument "service"\n {2}fix {3}meshctl route set --help/],
    [
      ['status', 'web'],
      /too many arguments for "status": expected 0 arguments but got 1\n {2}fix {3}meshctl status --help/,
    ],
    [['route', 'set', 'web'], /nothing to set/],
    [['route', 'set', 'web', '--to', 'v1=x'], /--to "v1=x"/],
    [['route', 'set', 'web', '--to', 'v1', '--retries', 'x'], /"x" is no number/],
    [['service', 'list', '-o', 'xml'], /xml/],
    [['check', 'host'], /check which host\?/],
    [['apply'], /nothing to apply/],
    [['apply', '-f', '/does/not/exist'], /\/does\/not\/exist cannot be read/],
    [['get', 'pods'], /unknown kind "pods"/],
    [['join'], /missing required argument/],
    [['join', 'a', 'b', '--name', 'x', '--address', 'y'], /3 flags are wrong/],
    [['join', 'vm1', '--exclude-cidr', '10.0.0.0/33'], /no network/],
    [
      ['join', 'vm1', '--no-inbound', '--service', 'web,port=1,proxy-protocol=accept'],
      /proxy-protocol=accept means nothing with --no-inbound/,
    ],
    [['logs', 'vm1', '--access', '--proxy'], /a log of its own/],
    [['init'], /--mesh is needed/],
    [['init', 'demo'], /--control is needed/],
    [['init', 'De_mo', '--control', 'local'], /must be lowercase/],
    [['init', 'demo', '--control', 'local', '--yes'], /--passphrase-file or --no-passphrase is needed/],
    [['init', 'demo', '--control', 'local', '--leaf-lifetime', '1s'], /--leaf-lifetime/],
    [['context', 'use'], /missing required argument/],
    [['status'], /this machine knows no mesh yet\n {2}fix {3}meshctl init/],
  ]
  const ran = await Promise.all(table.map(([args]) => run(args, { env })))
  for (const [index, { status, out, err }] of ran.entries()) {
    const [args, pattern] = table[index] ?? [[], /./]
    assert.equal(status, 64, args.join(' '))
    assert.equal(out, '', args.join(' '))
    assert.match(err, pattern, args.join(' '))
  }
})

test('declarations are checked before any connection is made, all at once', async () => {
  const { status, err } = await run(
    ['join', 'nowhere.invalid', '--service', 'Web,prot=1', '--service', 'api,port=x'],
    { env },
  )
  assert.equal(status, 65)
  assert.match(err, /service declarations: 4 problems; nothing was written/)
  assert.match(err, /prot: unknown key \(did you mean "port"\?\)/)
  assert.match(err, /api,port=x: port: must be a port/)
})

test('init says how long certificates will live, said or not', async () => {
  const init = ['init', 'demo', '--control', 'local', '--control-address', '10.0.0.1', '--name', 'ann']
  for (const [said, life] of [
    [[], '24h'],
    [['--leaf-lifetime', '90m'], '1h30m'],
  ] as const) {
    const { err } = await run([...init, ...said], { env })
    assert.ok(err.includes(`operator   ann; certificates of hosts live ${life}\n`), err)
  }
})

test('init takes the address of an SSH alias, and refuses a name that does not resolve at once', async () => {
  const home = join(folder, 'home')
  mkdirSync(join(home, '.ssh'), { recursive: true })
  writeFileSync(
    join(home, '.ssh/config'),
    'Host ctl\n  HostName 10.9.8.7\nHost odd\n  HostName odd.invalid\n',
  )
  const init = (control: string, ...more: string[]): ReturnType<typeof run> =>
    run(['init', 'demo', '--name', 'ann', '--dry-run', '--control', control, ...more], {
      env: { ...env, HOME: home },
    })
  const alias = await init('root@ctl:2222')
  assert.equal(alias.status, 0, alias.err)
  assert.match(alias.out, /control: root@ctl:2222\n *controlAddress: 10\.9\.8\.7\n/)
  for (const control of ['nowhere.invalid', 'odd']) {
    const { status, err } = await init(control)
    assert.equal(status, 64, err)
    assert.match(err, /\.invalid does not resolve on this machine[^]*fix .*--control-address/)
  }
  assert.equal((await init('nowhere.invalid', '--control-address', '10.9.8.7')).status, 0)
})

test('nothing asked for: help and status 64; help itself is no failure', async () => {
  assert.equal((await run([], { env })).status, 64)
  const version = await run(['--version'], { env })
  assert.deepEqual([version.status, version.out], [0, '0.1.0\n'])
})

test('a command of which only the first word was said: its help, status 64', async () => {
  for (const verb of ['service', 'route', 'cert', 'context']) {
    const { status, out, err } = await run([verb], { env })
    assert.deepEqual([status, out], [64, ''], verb)
    assert.match(err, new RegExp(`^Usage: meshctl ${verb}[^]*Commands:\\n`), verb)
  }
})

test('explain, completion and version need no mesh', async () => {
  const explain = await run(['explain', 'msh0401'], { env })
  assert.match(explain.out, /^MSH0401 {2}control unreachable {2}\(exit status 69\)/)
  assert.equal((await run(['explain', 'MSH9999'], { env })).status, 1)
  const all = JSON.parse((await run(['explain', '-o', 'json'], { env })).out) as {
    schemaVersion: number
    items: unknown[]
  }
  assert.ok(all.schemaVersion === 1 && all.items.length > 20)
  for (const shell of ['bash', 'zsh', 'fish']) {
    assert.match((await run(['completion', shell], { env })).out, /meshctl __complete --/)
  }
  const version = JSON.parse((await run(['version', '-o', 'json'], { env })).out) as {
    control: { reason: string }
  }
  assert.match(version.control.reason, /knows no mesh/)
})

test('completion of verbs, flags, choices and codes', async () => {
  const complete = async (...words: string[]): Promise<string[]> =>
    (await run(['__complete', '--', ...words], { env })).out.trimEnd().split('\n')
  assert.deepEqual(await complete('ro'), ['route'])
  assert.deepEqual(await complete('route', ''), ['get', 'list', 'set', 'unset'])
  assert.deepEqual(await complete('route', 'set', 'web', '--re'), ['--retries', '--retry-on'])
  assert.deepEqual(await complete('join', '--capture', ''), ['all', 'mesh', 'off'])
  assert.deepEqual(
    await complete('explain', 'MSH010'),
    (await complete('explain', 'MSH01')).filter((code) => code.startsWith('MSH010')),
  )
  assert.deepEqual(await complete('completion', ''), ['bash', 'fish', 'zsh'])
  assert.deepEqual(await complete('route', 'set', ''), [''])
})

test('a context file that others may read is refused', async () => {
  const open = mkdtempSync(join(tmpdir(), 'meshctl-open-'))
  writeFileSync(join(open, 'config.json'), '{}', { mode: 0o644 })
  const { status, err } = await run(['context', 'list'], { env: { MESHCTL_CONFIG: open } })
  assert.equal(status, 65)
  assert.match(err, /may be read by others\n {2}fix {3}chmod 600/)
  rmSync(open, { recursive: true })
})
