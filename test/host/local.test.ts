import assert from 'node:assert/strict'
import { test } from 'node:test'
import { LocalHost } from '../../src/host/local.ts'

test('programs of administrators are found from a crontab too', async (t) => {
  const { PATH: before } = process.env
  t.after(() => {
    process.env['PATH'] = before
  })
  process.env['PATH'] = '/usr/bin:/bin'
  assert.equal((await new LocalHost().run('echo $PATH')).stdout, '/usr/bin:/bin:/usr/sbin:/sbin\n')
  delete process.env['PATH']
  assert.equal((await new LocalHost().run('echo $PATH')).stdout, '/usr/bin:/bin:/usr/sbin:/sbin\n')
})
