// The gRPC server: nghttpd, which reads a request to its end and answers it with a file and trailers. As a server in C it
// leaves the core to the load. (nginx can be made to answer so too, but answers before it has read the message and then
// resets the stream, which its own gRPC client takes for an error.)
import { cores, type Place } from '../place.ts'
import type { Backend } from '../scenario/scenario.ts'

const port = 9002

/** nghttpd tells the content type by what follows the last dot. */
export const grpcPath = '/bench.Echo/Call.grpc'

export function startGrpc(place: Place, frame: Buffer): Backend {
  place.file(`grpc${grpcPath}`, frame)
  const types = place.file('grpc.types', 'application/grpc grpc\n')
  const pid = place.start(
    'grpc',
    'server',
    cores.load,
    'nghttpd',
    '--no-tls',
    '-d',
    `${place.dir}/grpc`,
    '--mime-types-file',
    types,
    '--trailer',
    'grpc-status: 0',
    '-m',
    '1000',
    String(port),
  )
  return { port, pids: [pid] }
}
