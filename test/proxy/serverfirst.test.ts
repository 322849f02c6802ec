// Protocols in which the server speaks first pass without delay, declared or not.
import assert from 'node:assert/strict'
import net from 'node:net'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import type { Protocol } from '../../src/snapshot/types.ts'
import { Authority, Caller, Client, Instance, listen } from './hops.ts'
import { mysqlServer, mysqlSession, rowsOfAnswer } from './mysql.ts'

const authority = new Authority()
/** Below every wait of the sniffer. */
const atOnce = 90

function instanceOf(t: TestContext, port: number, protocol: Protocol): Promise<Instance> {
  return new Instance(t, port, { protocol }).start(authority)
}

/** A proxy that has learned nothing of the port yet. */
function callerOf(t: TestContext, instance: Instance, protocol: Protocol): Promise<Caller> {
  return new Caller(t).start(authority, {
    protocol,
    subsets: [{ name: '', weight: 1, endpoints: [instance.endpoint()] }],
  })
}

for (const protocol of ['tcp', 'auto', 'tls'] as const) {
  test(`${protocol}: a MySQL-like server is heard at once`, async (t) => {
    const instance = await instanceOf(t, await listen(t, mysqlServer().server), protocol)
    let caller = await callerOf(t, instance, protocol)
    const times: number[] = []
    for (let i = 0; i < 3; i++) {
      caller = await callerOf(t, instance, protocol)
      const { greeted, version, rows } = await mysqlSession(caller.port, 'select 1')
      assert.equal(version, '8.4.0-test')
      assert.equal(rows.length, rowsOfAnswer)
      assert.ok(rows.every((row) => row === 'select 1'))
      times.push(greeted)
    }
    // The best of three: the machine may be slow, the sniffer would be each time.
    assert.ok(Math.min(...times) < atOnce, `${times.join()} ms`)
    // Side by side: nobody's greeting waits for another's.
    const many = await Promise.all(Array.from({ length: 20 }, (_, at) => mysqlSession(caller.port, `q${at}`)))
    assert.deepEqual(
      many.map(({ rows }) => rows.at(-1)),
      Array.from({ length: 20 }, (_, at) => `q${at}`),
    )
  })

  test(`${protocol}: an SMTP dialogue that ends with the client's half-close`, async (t) => {
    const app = net.createServer({ allowHalfOpen: true }, (socket) => {
      socket.write('220 mail.test ESMTP\r\n')
      let mail = ''
      socket.on('data', (chunk: Buffer) => {
        mail += chunk.toString()
        if (mail === 'EHLO me\r\n') socket.write('250 mail.test\r\n')
      })
      socket.on('end', () => socket.end(`221 ${mail.length} bytes\r\n`))
    })
    const instance = await instanceOf(t, await listen(t, app), protocol)
    const caller = await callerOf(t, instance, protocol)
    for (let i = 0; i < 2; i++) {
      const client = new Client(t, caller.port)
      await client.untilText('220 mail.test ESMTP\r\n')
      await client.send('EHLO me\r\n').untilText('250 mail.test')
      client.send('x'.repeat(200_000))
      client.socket.end()
      await client.untilText('221 200009 bytes\r\n')
      await client.untilClosed()
    }
  })
}
