// Servers and clients of gRPC (@grpc/grpc-js) without a schema: messages are bytes.
import type { TestContext } from 'node:test'
import * as grpc from '@grpc/grpc-js'

/** Messages are bytes here, nothing is made of them. */
export const same = (bytes: Buffer): Buffer => bytes
const codec = {
  requestSerialize: same,
  requestDeserialize: same,
  responseSerialize: same,
  responseDeserialize: same,
}

const service: grpc.ServiceDefinition = {
  unary: { path: '/test.Echo/Unary', requestStream: false, responseStream: false, ...codec },
  collect: { path: '/test.Echo/Collect', requestStream: true, responseStream: false, ...codec },
  repeat: { path: '/test.Echo/Repeat', requestStream: false, responseStream: true, ...codec },
  chat: { path: '/test.Echo/Chat', requestStream: true, responseStream: true, ...codec },
  fail: { path: '/test.Echo/Fail', requestStream: false, responseStream: false, ...codec },
  hang: { path: '/test.Echo/Hang', requestStream: true, responseStream: true, ...codec },
}

/** Answers every kind of call, and notes what it was told. */
export class App {
  readonly server: grpc.Server
  /** Metadata of the last call. */
  seen = new grpc.Metadata()
  deadline = 0
  calls = 0
  cancelled = 0
  port = 0

  constructor(options: grpc.ServerOptions = {}) {
    this.server = new grpc.Server({ 'grpc.max_receive_message_length': -1, ...options })
    const note = (call: { metadata: grpc.Metadata }): void => {
      this.calls++
      this.seen = call.metadata
    }
    this.server.addService(service, {
      unary: (call: grpc.ServerUnaryCall<Buffer, Buffer>, done: grpc.sendUnaryData<Buffer>) => {
        note(call)
        const first = new grpc.Metadata()
        first.set('x-first', 'a b')
        call.sendMetadata(first)
        const last = new grpc.Metadata()
        last.set('x-last', 'c')
        last.set('x-last-bin', Buffer.from([0, 255, 1]))
        done(null, call.request, last)
      },
      collect: (call: grpc.ServerReadableStream<Buffer, Buffer>, done: grpc.sendUnaryData<Buffer>) => {
        note(call)
        const all: Buffer[] = []
        call.on('data', (message: Buffer) => all.push(message))
        call.on('end', () => done(null, Buffer.concat(all)))
      },
      repeat: (call: grpc.ServerWritableStream<Buffer, Buffer>) => {
        note(call)
        for (let i = 0; i < 100; i++) call.write(Buffer.from(`${call.request.toString()} ${i}`))
        call.end()
      },
      chat: (call: grpc.ServerDuplexStream<Buffer, Buffer>) => {
        note(call)
        call.on('data', (message: Buffer) => call.write(Buffer.from(`<${message.toString()}>`)))
        call.on('end', () => call.end())
      },
      fail: (call: grpc.ServerUnaryCall<Buffer, Buffer>, done: grpc.sendUnaryData<Buffer>) => {
        note(call)
        const metadata = new grpc.Metadata()
        metadata.set('x-why', 'because')
        metadata.set('grpc-status-details-bin', Buffer.from('details'))
        done({ code: Number(call.request.toString()), details: 'größer als 100%', metadata })
      },
      hang: (call: grpc.ServerDuplexStream<Buffer, Buffer>) => {
        note(call)
        const deadline = call.getDeadline()
        this.deadline = deadline instanceof Date ? deadline.getTime() : deadline
        call.on('data', (message: Buffer) => call.write(message))
        call.on('cancelled', () => this.cancelled++)
      },
    })
  }

  async start(t: TestContext): Promise<this> {
    this.port = await new Promise<number>((resolve, reject) =>
      this.server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, port) =>
        error === null ? resolve(port) : reject(error),
      ),
    )
    t.after(() => this.server.forceShutdown())
    return this
  }
}

export interface Reply {
  readonly code: number
  readonly details: string
  readonly message: Buffer | null
  readonly first: grpc.Metadata
  readonly last: grpc.Metadata
}

export function clientTo(t: TestContext, port: number): grpc.Client {
  const client = new grpc.Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure(), {
    'grpc.default_authority': 'web.default.mesh:8080',
    'grpc.max_receive_message_length': -1,
    // What the mesh does is to be seen, not what the library mends.
    'grpc.enable_retries': 0,
    'grpc.use_local_subchannel_pool': 1,
  })
  t.after(() => client.close())
  return client
}

export function unary(
  client: grpc.Client,
  name: string,
  message: string | Buffer,
  options: grpc.CallOptions = {},
  metadata: grpc.Metadata = new grpc.Metadata(),
): Promise<Reply> {
  return new Promise((resolve) => {
    let first = new grpc.Metadata()
    let received: Buffer | null = null
    const request = Buffer.from(message)
    const path = `/test.Echo/${name}`
    const call = client.makeUnaryRequest(path, same, same, request, metadata, options, (_error, value) => {
      received = value ?? null
    })
    call.on('metadata', (given) => (first = given))
    call.on('status', ({ code, details, metadata: last }) =>
      // The callback of the message comes in the same turn.
      setImmediate(() => resolve({ code, details, message: received, first, last })),
    )
  })
}

/** All of a stream, and its status. */
export function collect(
  call: grpc.ClientReadableStream<Buffer>,
): Promise<{ code: number; details: string; all: string[] }> {
  return new Promise((resolve) => {
    const all: string[] = []
    call.on('data', (message: Buffer) => all.push(message.toString()))
    call.on('error', () => undefined)
    call.on('status', ({ code, details }) => setImmediate(() => resolve({ code, details, all })))
  })
}
