// The server of bulk transfers: argument port. A connection that begins with `u` is read to its end and then told how many
// bytes came, as text; one that begins with `d` is sent bytes for as long as it is there.
import { createServer, type Socket } from 'node:net'

const port = Number(process.argv[2])
const chunk = Buffer.alloc(262_144, 'b')

function serve(socket: Socket): void {
  let bytes = -1
  socket.on('error', () => socket.destroy())
  socket.on('data', (data: Buffer) => {
    if (bytes < 0 && data[0] === 0x64) {
      bytes = 0
      pour(socket)
      return
    }
    bytes += data.length
  })
  socket.on('end', () => socket.end(bytes < 0 ? '' : String(bytes)))
}

function pour(socket: Socket): void {
  while (!socket.destroyed && socket.write(chunk));
  if (!socket.destroyed) socket.once('drain', () => pour(socket))
}

createServer({ allowHalfOpen: true, noDelay: true }, serve).listen(port)
