// A WebSocket server that sends every message back: argument port. On raw sockets, since it has to share a core with the
// load. Messages are of one frame and below 126 bytes.
import { createHash } from 'node:crypto'
import { createServer, type Socket } from 'node:net'

const port = Number(process.argv[2])
const guid = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'
const headEnd = Buffer.from('\r\n\r\n')

function serve(socket: Socket): void {
  let isOpen = false
  let rest: Buffer = Buffer.alloc(0)
  socket.on('error', () => socket.destroy())
  socket.on('data', (chunk: Buffer) => {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk])
    if (!isOpen) {
      const end = rest.indexOf(headEnd)
      if (end < 0) return
      const key = /\nsec-websocket-key: *(\S+)/i.exec(rest.latin1Slice(0, end))?.[1] ?? ''
      const accept = createHash('sha1')
        .update(key + guid)
        .digest('base64')
      socket.write(
        `HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: ${accept}\r\n\r\n`,
      )
      rest = rest.subarray(end + 4)
      isOpen = true
    }
    rest = rest.subarray(echo(socket, rest))
  })
}

/** Answers all whole frames; how many bytes they were. */
function echo(socket: Socket, bytes: Buffer): number {
  let at = 0
  while (bytes.length - at >= 6) {
    const size = bytes[at + 1]! & 0x7f
    if (size > 125) {
      socket.destroy()
      return bytes.length
    }
    const end = at + 6 + size
    if (end > bytes.length) break
    const frame = Buffer.allocUnsafe(2 + size)
    frame[0] = bytes[at]!
    frame[1] = size
    for (let i = 0; i < size; i++) frame[2 + i] = bytes[at + 6 + i]! ^ bytes[at + 2 + (i & 3)]!
    socket.write(frame)
    at = end
  }
  return at
}

createServer({ noDelay: true }, serve).listen(port, '0.0.0.0', 4096)
