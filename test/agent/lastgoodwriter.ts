// Writes one large snapshot after the other, until it is killed. Arguments: the folder, and the name of the round.
import { LastGood } from '../../src/agent/lastgood.ts'
import { systemClock } from '../../src/clock.ts'
import { makeLog } from '../../src/log.ts'
import { clientSnapshot } from '../../bench/system/snapshot.ts'
import { snapshotHash } from '../../src/snapshot/hash.ts'

const [folder = '', round = ''] = process.argv.slice(2)
const disk = new LastGood({ folder, clock: systemClock, log: makeLog('test', 'silent') })
const large = clientSnapshot({
  protocol: 'http',
  backendPort: 8000,
  vip: '240.240.0.1',
  outboundPort: 15001,
  linkPort: 15008,
  instances: 1,
  others: { services: 20, routes: 10, endpoints: 50 },
})

for (let i = 0; ; i++) {
  const draft = { ...large, host: `round-${round}-${i}` }
  await disk.put({ ...draft, hash: snapshotHash(draft) })
  if (i === 0) process.send!('begun')
}
