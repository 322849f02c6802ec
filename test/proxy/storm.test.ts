// A storm through two hops over links that are cut: nobody gets a byte of another's, and everybody gets all of his own.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Authority, Caller, Instance, listen } from './hops.ts'
import { behind } from './relay.ts'
import { Storm, below } from './storm.ts'

const authority = new Authority()
/** More by hand. */
const ms = Number(process.env['STORM_SECONDS'] ?? 1) * 1000

for (const protocol of ['http', 'http2'] as const) {
  test(`an application declared ${protocol}: no byte of a body or answer is another’s`, async (t) => {
    const storm = new Storm()
    t.after(() => storm.close())
    const instances: Instance[] = []
    for (let i = 0; i < 2; i++) {
      instances.push(await new Instance(t, await listen(t, storm.app()), { protocol }).start(authority))
    }
    const ways = await Promise.all(instances.map((instance) => behind(t, instance)))
    const caller = await new Caller(t).start(authority, {
      protocol,
      subsets: [{ name: '', weight: 1, endpoints: ways.map(({ endpoint }) => endpoint) }],
    })
    const cuts = setInterval(() => ways[below(2)]!.relay.cut(), 300)
    t.after(() => clearInterval(cuts))
    const end = setTimeout(() => storm.stop(), ms)
    t.after(() => clearTimeout(end))
    await Promise.all([
      ...Array.from({ length: 4 }, () => storm.calls1(caller.port)),
      ...Array.from({ length: 3 }, () => storm.calls2(caller.port)),
      ...Array.from({ length: 2 }, () => storm.pipelines(caller.port)),
      ...Array.from({ length: 2 }, () => storm.calls1(instances[0]!.inboundPort)),
      storm.calls2(instances[1]!.inboundPort),
    ])
    clearInterval(cuts)
    assert.deepEqual(storm.wrongs.slice(0, 5), [])
    assert.deepEqual(storm.unanswered.slice(0, 5), [])
    assert.ok(storm.good > 20, `${storm.good} good answers, ${storm.failed} failed`)
    t.diagnostic(`${storm.good} good, ${storm.failed} failed, ${storm.whole} requests whole`)
  })
}
