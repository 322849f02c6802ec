// What is passed on without being understood: bulk TCP, and WebSocket after its upgrade.
import { startEcho, startSink } from '../backend/own.ts'
import { generated } from '../load/program.ts'
import type { Scenario } from './scenario.ts'

/** Two connections up and two down at the same time; CPU per MB. */
export const tcpScenario: Scenario = {
  name: 'tcp',
  per: 'MB',
  kind: 'tcp',
  hops: { haproxy: 'h1', envoy: 'h1' },
  bars: { best: 1.1 },
  backend: startSink,
  probe: (place, at) => void generated(place, 'bulk', at, [], 1, 1, 0.1),
  load: (place, at, seconds, pids) => generated(place, 'bulk', at, pids, 2, 2, seconds),
}

const messageBytes = 64

/** Over HTTP/2 (extended CONNECT) both need half of what they need over HTTP/1.1. */
export const websocketScenario: Scenario = {
  name: 'websocket',
  per: 'message',
  kind: 'websocket',
  hops: { haproxy: 'h2', envoy: 'h2' },
  bars: { best: 1 },
  backend: startEcho,
  probe: (place, at) => void generated(place, 'websocket', at, [], 1, messageBytes, 0.1),
  load: (place, at, seconds, pids) => generated(place, 'websocket', at, pids, 1000, messageBytes, seconds),
}
