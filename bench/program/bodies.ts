// A server that reads a request with a body to its end and answers with a body of the same size: arguments port, bytes.
// On raw sockets, since it has to share a core with the load.
import { createServer, type Socket } from 'node:net'

const [port = 0, bytes = 0] = process.argv.slice(2).map(Number)
const answer = Buffer.from(
  `HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: ${bytes}\r\n\r\n${'x'.repeat(bytes)}`,
)
const refusal = 'HTTP/1.1 411 Length Required\r\ncontent-length: 0\r\nconnection: close\r\n\r\n'
const headEnd = Buffer.from('\r\n\r\n')
const chunkEnd = Buffer.from('0\r\n\r\n')

function serve(socket: Socket): void {
  let head: Buffer = Buffer.alloc(0)
  /** Bytes of the body that are to come; -1: the head is not whole; -2: chunked, to its last chunk. */
  let left = -1
  let tail: Buffer = Buffer.alloc(0)
  socket.on('error', () => socket.destroy())
  socket.on('data', (chunk: Buffer) => {
    let body = chunk
    if (left === -1) {
      head = head.length === 0 ? chunk : Buffer.concat([head, chunk])
      const end = head.indexOf(headEnd)
      if (end < 0) return
      const text = head.latin1Slice(0, end)
      const length = /\ncontent-length: *(\d+)/i.exec(text)?.[1]
      if (length === undefined && !/\ntransfer-encoding: *chunked/i.test(text)) {
        socket.end(refusal)
        return
      }
      left = length === undefined ? -2 : Number(length)
      body = head.subarray(end + 4)
      head = tail = Buffer.alloc(0)
    }
    if (left === -2) {
      // All bytes of all bodies are x, so the end cannot be in the middle of one.
      tail = Buffer.concat([tail, body]).subarray(-chunkEnd.length)
      if (!tail.equals(chunkEnd)) return
    } else {
      left -= body.length
      if (left > 0) return
    }
    left = -1
    socket.write(answer)
  })
}

createServer({ noDelay: true }, serve).listen(port)
