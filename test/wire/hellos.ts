// ClientHellos of real clients: a socket that only listens writes down what node:tls and openssl say first.
import { spawn } from 'node:child_process'
import net from 'node:net'
import tls from 'node:tls'

/** The first bytes that `dial` sends, up to the end of its first handshake message. */
export async function firstBytes(dial: (port: number) => () => void): Promise<Buffer> {
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>()
  const server = net.createServer((socket) => {
    const chunks: Buffer[] = []
    socket.on('error', () => {})
    socket.on('data', (chunk: Buffer) => {
      chunks.push(chunk)
      const all = Buffer.concat(chunks)
      // One record holds it whole: none of these clients cuts it.
      if (all.length >= 5 && all.length >= 5 + all.readUInt16BE(3)) {
        resolve(all)
        socket.destroy()
      }
    })
    socket.on('close', () => reject(new Error('no hello came')))
  })
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  const stop = dial((server.address() as net.AddressInfo).port)
  try {
    return await promise
  } finally {
    stop()
    server.close()
  }
}

export function nodeHello(options: tls.ConnectionOptions): Promise<Buffer> {
  return firstBytes((port) => {
    const socket = tls.connect({ port, host: '127.0.0.1', rejectUnauthorized: false, ...options })
    socket.on('error', () => {})
    return () => socket.destroy()
  })
}

export function opensslHello(...flags: string[]): Promise<Buffer> {
  return firstBytes((port) => {
    const child = spawn('openssl', ['s_client', '-connect', `127.0.0.1:${port}`, ...flags], {
      stdio: 'ignore',
    })
    return () => child.kill()
  })
}

/** The same handshake message in records of `size` bytes. */
export function cut(hello: Buffer, size: number): Buffer {
  const message = hello.subarray(5, 5 + hello.readUInt16BE(3))
  const records: Buffer[] = []
  for (let at = 0; at < message.length; at += size) {
    const part = message.subarray(at, at + size)
    const head = Buffer.from(hello.subarray(0, 5))
    head.writeUInt16BE(part.length, 3)
    records.push(head, part)
  }
  return Buffer.concat(records)
}

/** A ClientHello with these extensions and nothing remarkable besides. */
export function helloOf(extensions: readonly { readonly type: number; readonly body: Buffer }[]): Buffer {
  const all = Buffer.concat(
    extensions.flatMap(({ type, body }) => {
      const head = Buffer.alloc(4)
      head.writeUInt16BE(type, 0)
      head.writeUInt16BE(body.length, 2)
      return [head, body]
    }),
  )
  const fixed = Buffer.from('0303' + '5a'.repeat(32) + '00' + '00021301' + '0100', 'hex')
  const tail = Buffer.alloc(2)
  tail.writeUInt16BE(all.length)
  return recordOf(Buffer.concat([fixed, tail, all]))
}

export function recordOf(body: Buffer): Buffer {
  const head = Buffer.from([22, 3, 1, 0, 0, 1, 0, 0, 0])
  head.writeUInt16BE(body.length + 4, 3)
  head.writeUIntBE(body.length, 6, 3)
  return Buffer.concat([head, body])
}

/** The body of a server_name extension; `kind` other than 0 is no host name. */
export function nameBody(name: string, kind: number = 0): Buffer {
  const bytes = Buffer.from(name, 'latin1')
  const body = Buffer.alloc(5 + bytes.length)
  body.writeUInt16BE(bytes.length + 3, 0)
  body[2] = kind
  body.writeUInt16BE(bytes.length, 3)
  bytes.copy(body, 5)
  return body
}
