import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { ContextStore } from '../../src/cli/context.ts'
import { Findings } from '../../src/cli/finding.ts'
import { checkReport, checkStanding } from '../../src/cli/standing.ts'
import { FakeHost } from '../../src/host/fake.ts'
import { joinHost } from '../control/plane.ts'
import { Place } from './place.ts'

const place = new Place()
before(() => place.start())
after(() => place.close())

async function standing(host: string, mesh = 'demo'): Promise<string[]> {
  const findings = new Findings()
  const store = new ContextStore(place.folder, {})
  await checkStanding(store, { mesh, host }, findings, () => {})
  return findings.all.map(({ level, message, hint }) => `${level} ${message} | ${hint}`)
}

test('what control thinks of a host: signs for it, has revoked it, does not know it, is away', async () => {
  await joinHost(place.plane, 'vm1', ['web'])
  assert.deepEqual(await standing('vm1'), ['ok signs for vm1 | '])
  await place.plane.operator().revoke('vm1')
  assert.match((await standing('vm1'))[0] ?? '', /^error has revoked vm1.*\| meshctl join vm1/)
  assert.match((await standing('vm9'))[0] ?? '', /^error does not know vm9/)
  // A mesh that this machine does not operate: nobody to ask.
  assert.deepEqual(await standing('vm1', 'other'), [])
  await place.plane.stop()
  assert.match((await standing('vm1'))[0] ?? '', /^warn .*\| \S/)
})

async function report(status: number, stderr: string, told: string[] = []): Promise<string[]> {
  const findings = new Findings()
  const host = new FakeHost('vm1', () => ({ status, stdout: '', stderr }))
  await checkReport(host, findings, told)
  for (const { level, hint } of findings.all) assert.equal(hint === '', level === 'ok')
  return findings.all.map(({ level, message }) => `${level} ${message}`)
}

test('what the agent reports of itself is found, once', async () => {
  const well = 'host vm1 (10.0.0.1), meshctl 0.1.0\nproxy ok, snapshot abc\n'
  const connected = `${well}capture ok, dns ok, registry connected\n`
  assert.match((await report(0, connected))[0] ?? '', /^ok /)
  const away = `${well}capture ok, dns ok, registry away\n`
  const failing =
    'meshctl agent: registry away; the view is 3 min old (and 1 more) [MSH0606]\n' +
    '  registry away; the view is 3 min old\n  proxy down\n'
  assert.deepEqual(await report(79, away + failing, ['meshctl agent: proxy down [MSH0606]']), [
    'error registry away; the view is 3 min old',
  ])
  // Never connected: the report has no age to tell.
  assert.match((await report(0, away))[0] ?? '', /^error registry away/)
  const dead = 'meshctl agent: the agent does not answer: no socket [MSH0604]\n'
  assert.deepEqual(await report(69, dead), ['error the agent does not answer: no socket'])
  assert.deepEqual(await report(69, dead, ['agent: the agent does not answer: no socket (and 1 more)']), [])
})
