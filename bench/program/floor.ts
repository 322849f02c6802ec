// The least that two hops on this runtime can do: pieces go from connections to one mTLS link and back, each with a number
// and a length before it, gathered per turn of the event loop. Nothing that is carried is understood, chosen or counted. Sockets
// are driven as the proxy drives them (src/net). Pieces must be small: one that the kernel takes only a part of ends all.
// Arguments: port and address to listen on, near|far, address and port to connect to, the files of a certificate, its key
// and the roots.
import { readFileSync } from 'node:fs'
import net from 'node:net'
import tls from 'node:tls'
import { type Channel, nobody, type Owner } from '../../src/net/channel.ts'
import { Connection, Reading } from '../../src/net/connection.ts'
import { acceptHandles } from '../../src/net/incoming.ts'

const [listenPort, listenHost, role, host, port, chain, key, roots] = process.argv.slice(2)
const on = { port: Number(listenPort), host: String(listenHost), backlog: 4096 }
const toward = ({ buffer, callback }: Reading) => ({
  host: String(host),
  port: Number(port),
  noDelay: true,
  autoSelectFamily: false,
  onread: { buffer, callback },
})
const secrets = {
  cert: readFileSync(String(chain)),
  key: readFileSync(String(key)),
  ca: readFileSync(String(roots)),
  minVersion: 'TLSv1.3',
} as const

/** Number of the connection, bytes of the piece; none: it has ended. */
const headBytes = 5
const roomBytes = 262_144

/** By number, which is the same at both hops. The near hop gives numbers, and takes one back when both are done with it. */
const ends: (End | null)[] = []
const free: number[] = []
const nothing = Buffer.alloc(0)
let link: Link | null = null

class Link implements Owner {
  readonly #connection: Connection
  readonly #out: Buffer = Buffer.allocUnsafeSlow(roomBytes)
  #outEnd = 0
  #isScheduled = false
  #rest: Buffer | null = null

  constructor(connection: Connection) {
    this.#connection = connection
    connection.owner = this
  }

  put(number: number, buffer: Buffer, start: number, end: number): void {
    const length = end - start
    if (this.#outEnd + headBytes + length > roomBytes) this.#send()
    const out = this.#out
    const at = this.#outEnd
    out[at] = number >> 8
    out[at + 1] = number
    out[at + 2] = length >> 16
    out[at + 3] = length >> 8
    out[at + 4] = length
    buffer.copy(out, at + headBytes, start, end)
    this.#outEnd = at + headBytes + length
    if (this.#isScheduled) return
    this.#isScheduled = true
    setImmediate(this.#flush)
  }

  bytes(buffer: Buffer, start: number, end: number): void {
    let [from, at, last] = [buffer, start, end]
    if (this.#rest !== null) {
      from = Buffer.concat([this.#rest, buffer.subarray(start, end)])
      at = 0
      last = from.length
      this.#rest = null
    }
    while (last - at >= headBytes) {
      const next = at + headBytes + ((from[at + 2]! << 16) | (from[at + 3]! << 8) | from[at + 4]!)
      if (next > last) break
      deliver((from[at]! << 8) | from[at + 1]!, from, at + headBytes, next)
      at = next
    }
    if (at < last) this.#rest = Buffer.from(from.subarray(at, last))
  }

  ended(): void {
    process.exit(1)
  }

  drained(): void {}

  closed(): void {
    process.exit(1)
  }

  readonly #flush = (): void => {
    this.#isScheduled = false
    if (this.#outEnd > 0) this.#send()
  }

  #send(): void {
    // TLS has encrypted it when this returns: the buffer stays ours.
    this.#connection.lend(this.#out.subarray(0, this.#outEnd))
    this.#outEnd = 0
  }
}

/** A connection of the load, or to the backend. */
class End implements Owner {
  readonly channel: Channel
  readonly #number: number
  /** The other hop is done with the number, or this one has nobody to ask. */
  #isReturned: boolean

  constructor(number: number, channel: Channel) {
    this.#number = number
    this.channel = channel
    this.#isReturned = role === 'far'
    ends[number] = this
    channel.owner = this
  }

  /** The other hop's connection has ended. */
  end(): void {
    this.#isReturned = true
    if (this.channel.isClosed) this.#release()
    else if (!this.channel.close()) this.channel.end()
  }

  bytes(buffer: Buffer, start: number, end: number): void {
    link?.put(this.#number, buffer, start, end)
  }

  ended(): void {
    if (role === 'near') link?.put(this.#number, nothing, 0, 0)
    else this.channel.end()
  }

  drained(): void {}

  closed(): void {
    if (role === 'far') link?.put(this.#number, nothing, 0, 0)
    else if (!this.channel.isEnded) this.ended()
    if (this.#isReturned) this.#release()
  }

  #release(): void {
    ends[this.#number] = null
    if (role === 'near') free.push(this.#number)
  }
}

function deliver(number: number, buffer: Buffer, start: number, end: number): void {
  const found = ends[number] ?? null
  if (start === end) found?.end()
  else if (found !== null) {
    found.channel.lend(buffer.subarray(start, end))
    if (found.channel.hasKept) throw new Error('a connection is slower than its pieces')
  } else if (role === 'far') {
    const reading = new Reading()
    const made = new Connection(net.connect(toward(reading)), nobody, reading)
    void new End(number, made)
    made.write(Buffer.from(buffer.subarray(start, end)))
  }
}

if (role === 'near') {
  const reading = new Reading()
  const socket = tls.connect({ ...toward(reading), ...secrets, checkServerIdentity: () => undefined })
  const connection = new Connection(socket, nobody, reading)
  socket.once('error', (error) => {
    console.error(error.message)
    process.exit(1)
  })
  socket.once('secureConnect', () => {
    link = new Link(connection)
    const server = net.createServer()
    server.listen(on, () => {
      const isDirect = acceptHandles(server, (incoming) => {
        void new End(free.pop() ?? ends.length, incoming)
      })
      if (!isDirect) throw new Error('handles cannot be driven on this runtime')
    })
  })
} else {
  const server = tls.createServer({ ...secrets, requestCert: true, rejectUnauthorized: true, noDelay: true })
  server.on('secureConnection', (socket) => (link = new Link(new Connection(socket, nobody, null))))
  server.listen(on)
}
