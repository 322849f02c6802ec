// A registry in a process of its own, for tests that kill it. Writes its port, then serves until it is ended.
import { systemClock } from '../../../src/clock.ts'
import { makeLog } from '../../../src/log.ts'
import { startEmbedded } from '../../../src/registry/embedded/server.ts'

const server = await startEmbedded({
  dbPath: process.argv[2] ?? '',
  host: '127.0.0.1',
  port: 0,
  entitlementOf: () => null,
  managementToken: process.argv[3] ?? '',
  log: makeLog('store', 'silent'),
  clock: systemClock,
})
console.log(server.port)
