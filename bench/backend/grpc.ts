// The gRPC server: nginx with HTTP/2 in plain text. It answers every call with one message and `grpc-status: 0` in the
// trailers; as a server in C it leaves the core to the load.
import { cores, type Place } from '../place.ts'
import type { Backend } from '../scenario/scenario.ts'
import { http } from '../system/nginx.ts'

const port = 9002

export function startGrpc(place: Place, frame: Buffer): Backend {
  place.file('grpc/answer', frame)
  // A file is read with GET only; what comes as POST is answered with it by way of the error page.
  const server = `server {
    listen ${port} http2; root ${place.dir}/grpc; default_type application/grpc; open_file_cache max=10 inactive=1h;
    add_trailer grpc-status 0;
    error_page 405 =200 /answer;
    location / { rewrite ^ /answer break; }
  }`
  const config = place.file('grpc.conf', http(place, 'grpc', server))
  return { port, pids: [place.start('grpc', 'server', cores.load, 'nginx', '-c', config, '-e', 'stderr')] }
}
