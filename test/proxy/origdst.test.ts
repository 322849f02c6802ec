import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { test } from 'node:test'

// Runs inside its own network namespace, with real rules of iptables and ip6tables.
const script = `
import net from 'node:net'
import { execSync } from 'node:child_process'
import { originalDestinations } from '${new URL('../../src/proxy/listener/origdst.ts', import.meta.url).href}'
execSync('ip link set lo up; ip addr add 10.9.9.9/32 dev lo; ip -6 addr add fd99::9/128 dev lo')
execSync('ip route add 240.240.0.0/16 dev lo; ip -6 route add fd77::/16 dev lo')
execSync('iptables -t nat -A OUTPUT -p tcp --syn -d 240.240.0.0/16 -j REDIRECT --to-ports 15001')
execSync('ip6tables -t nat -A OUTPUT -p tcp --syn -d fd77::/16 -j REDIRECT --to-ports 15001')
const read = originalDestinations()
const seen = []
const server = net.createServer((socket) => {
  seen.push(read(socket))
  socket.destroy()
})
server.listen(15001, '::', () => next([['240.240.1.2', 8080], ['fd77::5', 443], ['10.9.9.9', 15001], ['fd99::9', 15001]]))
function next([to, ...rest]) {
  if (to === undefined) {
    server.close()
    console.log(JSON.stringify(seen))
    return
  }
  const socket = net.connect(to[1], to[0])
  socket.on('error', () => {})
  socket.on('close', () => next(rest))
}
`

test('the kernel names the original destination, v4 and v6; a direct connection has none', (t) => {
  const { status, stdout, stderr } = spawnSync(
    'unshare',
    ['-n', process.execPath, '--input-type=module', '--disable-warning=ExperimentalWarning', '-e', script],
    { encoding: 'utf8', timeout: 20_000 },
  )
  if (status !== 0 && /unshare|Operation not permitted|not found/.test(stderr)) {
    t.skip('needs root and iptables')
    return
  }
  assert.equal(status, 0, stderr)
  assert.deepEqual(JSON.parse(stdout), [
    { address: '240.240.1.2', port: 8080 },
    { address: 'fd77::5', port: 443 },
    null,
    null,
  ])
})
