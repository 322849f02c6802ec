// One unary gRPC call, checked in full: arguments host, port, path, request and response message in hex. h2load does not
// look at trailers, so this does before it.
import { connect } from 'node:http2'

const [host = '', port = '', path = '', request = '', response = ''] = process.argv.slice(2)
const prefixed = (message: Buffer): Buffer => {
  const prefix = Buffer.alloc(5)
  prefix.writeUInt32BE(message.length, 1)
  return Buffer.concat([prefix, message])
}

const session = connect(`http://${host}:${port}`)
session.on('error', fail)
session.setTimeout(5000, () => fail(new Error('no answer within 5 s')))
const stream = session.request({
  ':method': 'POST',
  ':path': path,
  'content-type': 'application/grpc',
  te: 'trailers',
})
let status = 0
let type = ''
let grpcStatus = 'missing'
const body: Buffer[] = []
stream.on('response', (headers) => {
  status = headers[':status'] ?? 0
  type = headers['content-type'] ?? ''
  // An answer of trailers only is an error of its own.
  if (headers['grpc-status'] !== undefined) grpcStatus = String(headers['grpc-status'])
})
stream.on('trailers', (trailers) => {
  if (trailers['grpc-status'] !== undefined) grpcStatus = String(trailers['grpc-status'])
})
stream.on('data', (chunk: Buffer) => body.push(chunk))
stream.on('error', fail)
stream.on('end', () => {
  const got = Buffer.concat(body)
  const wanted = prefixed(Buffer.from(response, 'hex'))
  if (status !== 200 || !type.startsWith('application/grpc') || grpcStatus !== '0' || !got.equals(wanted)) {
    fail(
      new Error(
        `status ${status} ${type}, grpc-status ${grpcStatus}, ${got.length} of ${wanted.length} bytes`,
      ),
    )
    return
  }
  console.log('ok')
  session.destroy()
})
stream.end(prefixed(Buffer.from(request, 'hex')))

function fail(error: Error): void {
  console.error(error.message)
  process.exit(1)
}
