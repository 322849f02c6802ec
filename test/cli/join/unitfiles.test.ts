import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { cronLines, hostUnits, sockets } from '../../../src/cli/join/unitfiles.ts'
import { maxIdentities } from '../../../src/paths.ts'

const template = readFileSync('templates/meshctl-proxy.socket', 'utf8')

test('the socket unit holds every port on both loopbacks, or on one without IPv6', () => {
  const listens = (text: string): string[] => text.match(/^ListenStream=.*$/gm) ?? []
  const both = listens(sockets(template, true))
  assert.equal(both.length, 2 * (maxIdentities + 1) + 2)
  assert.ok(both.includes('ListenStream=[::1]:15132') && both.includes('ListenStream=15008'))
  const four = listens(sockets(template, false))
  assert.equal(four.length, maxIdentities + 1 + 2)
  assert.ok(four.every((line) => !line.includes('[')))
})

test('cron lines are spread by the name of the host', () => {
  const lines = cronLines('vm1')
  assert.equal(lines.length, 3)
  for (const line of lines)
    assert.match(line, /^[\d,]+ \* \* \* \* \/usr\/local\/bin\/meshctl agent (renew|verify|report)$/)
  assert.notEqual(lines[0], cronLines('vm2')[0])
})

test('only a host whose resolver asks the agent has a socket for it', async () => {
  const names = async (dns: boolean): Promise<string[]> =>
    (await hostUnits('.', { ipv6: true, timers: true, dns, workers: 0 })).map(({ path }) => path)
  const [with_, without] = [await names(true), await names(false)]
  assert.deepEqual(
    with_.filter((path) => !without.includes(path)),
    ['/etc/systemd/system/meshctl-agent.socket'],
  )
  assert.equal(with_.length, without.length + 1)
})

test('the proxy gets the number of workers that the host declares, or chooses itself', async () => {
  const proxy = async (workers: number): Promise<string> => {
    const files = await hostUnits('.', { ipv6: true, timers: false, dns: true, workers })
    return files.find(({ path }) => path.endsWith('/meshctl-proxy.service'))?.text ?? ''
  }
  assert.match(await proxy(3), /^Environment=MESHCTL_WORKERS=3$/m)
  const own = await proxy(0)
  assert.match(own, /^ExecStart=/m)
  assert.doesNotMatch(own, /WORKERS/)
})
