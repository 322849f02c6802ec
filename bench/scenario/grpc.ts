// gRPC unary calls: a hundred at once on four connections.
import { ensure } from '../../scripts/setup.ts'
import { grpcPath, startGrpc } from '../backend/grpc.ts'
import { h2load } from '../load/h2load.ts'
import { program } from '../load/program.ts'
import type { Scenario } from './scenario.ts'

const message = Buffer.alloc(100, 'm')

/** A message as it travels: not compressed, its length, itself. */
const frame = Buffer.concat([Buffer.from([0, 0, 0, 0, message.length]), message])

export const grpcScenario: Scenario = {
  name: 'grpc',
  per: 'request',
  kind: 'grpc',
  hops: { haproxy: 'h2', envoy: 'h2' },
  bars: { best: 0.8 },
  backend: (place) => {
    ensure('grpc', (line) => console.error(line))
    return startGrpc(place, frame)
  },
  probe: (place, at) => {
    program(place, 'grpc', at, grpcPath, message.toString('hex'), message.toString('hex'))
  },
  load: (place, at, seconds) =>
    h2load(place, at, seconds, {
      connections: 4,
      streams: 25,
      path: grpcPath,
      frame,
      answerBytes: frame.length,
    }),
}
