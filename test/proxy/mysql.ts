// Two ends that talk as MySQL's do (protocol 10): the server greets, the client answers, then commands and results. Enough
// of it that whoever waits for the client's first bytes, loses packets or ends too early is found out.
import net from 'node:net'
import { readProxyHeader } from '../../src/wire/proxyprotocol.ts'
import type { ProxyHeader } from '../../src/wire/proxyprotocol.ts'

const comQuit = 1
const comQuery = 3
export const rowsOfAnswer = 300
const ok = Buffer.from([0, 0, 0, 2, 0, 0, 0])

function packet(sequence: number, body: Buffer): Buffer {
  const head = Buffer.alloc(4)
  head.writeUIntLE(body.length, 0, 3)
  head[3] = sequence
  return Buffer.concat([head, body])
}

/** Cuts a stream into packets. */
class Packets {
  #rest = Buffer.alloc(0)

  feed(chunk: Buffer): Buffer[] {
    this.#rest = Buffer.concat([this.#rest, chunk])
    const found: Buffer[] = []
    while (this.#rest.length >= 4 && this.#rest.length >= 4 + this.#rest.readUIntLE(0, 3)) {
      const end = 4 + this.#rest.readUIntLE(0, 3)
      found.push(this.#rest.subarray(4, end))
      this.#rest = this.#rest.subarray(end)
    }
    return found
  }
}

export interface MysqlServer {
  readonly server: net.Server
  readonly headers: ProxyHeader[]
}

/** A query is answered with its own text, over and over. `expectsHeader`: a PROXY header comes before all. */
export function mysqlServer(expectsHeader: boolean = false): MysqlServer {
  const headers: ProxyHeader[] = []
  const server = net.createServer((socket) => {
    const packets = new Packets()
    let isKnown = false
    let isGreeted = false
    let read = Buffer.alloc(0)
    const greet = (): void => {
      isGreeted = true
      const salt = Buffer.alloc(8, 0x2a)
      socket.write(packet(0, Buffer.concat([Buffer.from('\x0a8.4.0-test\0\x01\0\0\0', 'latin1'), salt])))
    }
    socket.on('error', () => {})
    socket.on('data', (chunk: Buffer) => {
      let rest = chunk
      if (!isGreeted) {
        read = Buffer.concat([read, chunk])
        const header = readProxyHeader(read, 0, read.length)
        if (header === 'more') return
        if (header === 'broken') {
          socket.destroy()
          return
        }
        headers.push(header)
        greet()
        rest = read.subarray(header.length)
      }
      for (const body of packets.feed(rest)) {
        if (!isKnown) {
          isKnown = true
          socket.write(packet(2, ok))
        } else if (body[0] === comQuit) socket.end()
        else if (body[0] === comQuery) {
          for (let row = 0; row < rowsOfAnswer; row++) socket.write(packet(row & 255, body.subarray(1)))
          socket.write(packet(rowsOfAnswer & 255, ok))
        }
      }
    })
    if (!expectsHeader) greet()
  })
  return { server, headers }
}

export interface MysqlSession {
  /** Milliseconds from connecting to the greeting. */
  readonly greeted: number
  readonly version: string
  readonly rows: readonly string[]
}

/** Connects, logs in, asks once, quits; resolves when the server has closed. */
export async function mysqlSession(port: number, query: string): Promise<MysqlSession> {
  const began = performance.now()
  const socket = net.connect({ port, host: '127.0.0.1' })
  const packets = new Packets()
  const rows: string[] = []
  let greeted = 0
  let version = ''
  let stage = 0
  return await new Promise((resolve, reject) => {
    socket.on('error', reject)
    socket.on('close', () => {
      if (stage === 3) resolve({ greeted, version, rows })
      else reject(new Error(`closed at stage ${stage}`))
    })
    socket.on('data', (chunk: Buffer) => {
      for (const body of packets.feed(chunk)) {
        if (stage === 0) {
          greeted = performance.now() - began
          version = body.subarray(1, body.indexOf(0)).toString()
          socket.write(packet(1, Buffer.from('login')))
          stage = 1
        } else if (stage === 1) {
          socket.write(packet(0, Buffer.concat([Buffer.from([comQuery]), Buffer.from(query)])))
          stage = 2
        } else if (body.equals(ok)) {
          socket.write(packet(0, Buffer.from([comQuit])))
          stage = 3
        } else rows.push(body.toString())
      }
    })
  })
}
