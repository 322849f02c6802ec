// Sockets passed by systemd are told apart by their port.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { BoundSocket, createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import { MeshError } from '../../src/errors.ts'
import { bindSocket, inheritedSockets } from '../../src/proxy/sockets.ts'

const module = join(import.meta.dirname, '../../src/proxy/sockets.ts')

/** What a process finds that was given these descriptors from 3 on, as systemd gives them. */
function found(fds: number[], pid = 'process.pid'): string {
  const code = `
    import { inheritedSockets } from ${JSON.stringify(module)}
    const env = { LISTEN_FDS: '${fds.length}', LISTEN_PID: String(${pid}) }
    try { console.log(JSON.stringify(inheritedSockets(env, process.pid).map(({ role, fd, port }) => [role, fd, port]))) }
    catch (error) { console.log(error.code, error.message) }`
  const { stdout } = spawnSync(process.execPath, ['--input-type=module-typescript', '-e', code], {
    stdio: ['ignore', 'pipe', 'inherit', ...fds],
    encoding: 'utf8',
  })
  return stdout.trim()
}

/** A listening socket, as systemd passes it, on an address that nobody else uses. */
async function listening(t: TestContext, port: number): Promise<{ fd: number; port: number }> {
  const bound = new BoundSocket({ host: '127.77.0.1', port })
  const fd = bound.fd()
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(bound, resolve))
  t.after(() => server.close())
  return { fd, port: (server.address() as AddressInfo).port }
}

test('outbound, identities, inbound and link by port', async (t) => {
  const sockets = await Promise.all([15001, 15101, 15132, 15006, 15008].map((port) => listening(t, port)))
  assert.deepEqual(JSON.parse(found(sockets.map(({ fd }) => fd))), [
    ['outbound', 3, 15001],
    ['outbound', 4, 15101],
    ['outbound', 5, 15132],
    ['inbound', 6, 15006],
    ['link', 7, 15008],
  ])
  assert.equal(
    found(
      sockets.map(({ fd }) => fd),
      '1',
    ),
    '[]',
  )
})

test('a socket that nobody serves, or that is none, is an error that names it', async (t) => {
  const socket = await listening(t, 0)
  assert.match(found([socket.fd]), new RegExp(`MSH0703 systemd passed a socket on port ${socket.port}`))
  assert.match(found([0]), /MSH0703 descriptor 3 from systemd is not a listening TCP socket/)
})

test('without socket activation there are none; a taken port is an error', async (t) => {
  assert.deepEqual(inheritedSockets({}, process.pid), [])
  const socket = await listening(t, 0)
  assert.throws(
    () => bindSocket('link', '127.77.0.1', socket.port),
    (error) => error instanceof MeshError && error.code === 'MSH0703',
  )
})
