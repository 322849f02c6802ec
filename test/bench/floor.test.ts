import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { makeSecrets } from '../../bench/certs.ts'
import { listen } from '../proxy/hops.ts'
import { serve } from './serve.ts'

test('the floor carries pieces and ends both ways, on connections one after another', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'meshctl-floor-'))
  t.after(() => rmSync(dir, { recursive: true }))
  const secrets = makeSecrets()
  const files = (side: 'client' | 'server'): string[] => {
    const { chain, key } = secrets[side].leafs.at(-1)!
    return Object.entries({ chain, key, roots: secrets[side].roots }).map(([name, text]) => {
      const file = join(dir, `${side}-${name}.pem`)
      writeFileSync(file, text, { mode: 0o600 })
      return file
    })
  }
  const open = new Set<net.Socket>()
  const echo = net.createServer((socket) => {
    open.add(socket)
    socket.on('close', () => open.delete(socket))
    socket.on('error', () => undefined)
    socket.on('data', (chunk) => (chunk.toString() === 'end' ? socket.end('bye') : socket.write(chunk)))
  })
  const backend = await listen(t, echo)
  const far = await serve(t, 'floor', '127.0.0.1', 'far', '127.0.0.1', backend, ...files('server'))
  const near = await serve(t, 'floor', '127.0.0.1', 'near', '127.0.0.1', far, ...files('client'))
  for (let round = 0; round < 3; round++) {
    const sockets = Array.from({ length: 5 }, () => net.connect({ port: near, host: '127.0.0.1' }))
    for (const [i, socket] of sockets.entries()) {
      for (const piece of [`a${i}`, 'x'.repeat(1000 + i)]) {
        socket.write(piece)
        assert.equal(String((await once(socket, 'data'))[0]), piece)
      }
    }
    // The backend ends some, the load the others.
    for (const [i, socket] of sockets.entries()) {
      if (i % 2 === 0) {
        socket.write('end')
        assert.equal(String((await once(socket, 'data'))[0]), 'bye')
        await once(socket, 'end')
      } else {
        const ended = once(socket.resume(), 'end')
        socket.end()
        await ended
      }
    }
    const end = performance.now() + 30_000
    while (open.size > 0) {
      assert.ok(performance.now() < end, 'the backend keeps connections that are over')
      await new Promise((done) => setTimeout(done, 5))
    }
  }
})
