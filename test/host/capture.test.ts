import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdirSync, rmdirSync, existsSync, rmSync } from 'node:fs'
import { after, before, describe, it } from 'node:test'
import {
  applyCapture,
  beat,
  captureDrift,
  removeCapture,
  setInstances,
  type CapturePlan,
} from '../../src/host/capture.ts'
import { canUseNamespaces, Namespace, sh } from './netns.ts'

const unit = `meshctl-test-${process.pid}.service`
const cgroup = ['/sys/fs/cgroup/unified', '/sys/fs/cgroup'].find((root) => existsSync(`${root}/cgroup.procs`))

const plan: CapturePlan = {
  outbound: 'mesh',
  inbound: [
    { port: 8080, onFailure: 'open' },
    { port: 8081, onFailure: 'closed' },
  ],
  identities: [
    { capturePort: 15101, unit, user: null },
    { capturePort: 15102, unit: null, user: 'daemon' },
    { capturePort: 15103, unit: 'meshctl-test-absent.service', user: null },
  ],
  proxyUser: 'nobody',
  exemptUnits: [],
  sshPorts: [22, 2222],
  excludePorts: [9999],
  // Not as the kernel prints them.
  excludeCidrs: ['10.99.3.4/16', 'FD99:0::7/64', '192.0.2.7'],
}

describe(
  'capture in a real kernel',
  { skip: canUseNamespaces && cgroup !== undefined ? false : 'needs root' },
  () => {
    let vm: Namespace
    let peer: Namespace
    const slice = `${cgroup}/system.slice`
    const madeSlice = cgroup !== undefined && !existsSync(slice)

    before(async () => {
      mkdirSync(`${slice}/${unit}`, { recursive: true })
      vm = new Namespace(`mshc${process.pid}a`)
      peer = new Namespace(`mshc${process.pid}b`)
      Namespace.cable(vm, ['10.1.0.1/24', 'fd01::1/64'], peer, ['10.1.0.2/24', 'fd01::2/64'])
      await vm.serve([22, 2222, 8080, 8081, 9999, 15001, 15006, 15101, 15102])
      await peer.serve([22, 8080, 9999])
    })

    after(() => {
      peer.close()
      vm.close()
      rmdirSync(`${slice}/${unit}`)
      if (madeSlice) rmdirSync(slice)
      rmSync('/run/meshctl/capture', { recursive: true, force: true })
    })

    const asUnit = `echo $$ > ${slice}/${unit}/cgroup.procs`

    it('applies, is the same when applied again, and leaves nothing', async () => {
      vm.sh('iptables -t nat -A OUTPUT -d 192.0.2.1 -j RETURN; ip6tables -A INPUT -s fd77::1 -j DROP')
      const clean = state(vm)
      await applyCapture(vm.host, plan)
      assert.deepEqual(await captureDrift(vm.host, plan), [])
      const once = state(vm)
      await applyCapture(vm.host, plan)
      assert.equal(state(vm), once)
      await removeCapture(vm.host)
      assert.equal(state(vm), clean)
      await removeCapture(vm.host)
      assert.equal(state(vm), clean)
    })

    it('sends virtual addresses and instances to the port of the caller', async () => {
      await applyCapture(vm.host, plan)
      await setInstances(vm.host, ['10.1.0.2,8080', 'fd01::2,8080'])
      assert.equal(vm.dial('240.240.1.1', 80), 'ECONNREFUSED', 'no heartbeat yet: refused at once')
      assert.equal(vm.dial('10.1.0.2', 8080), '8080', 'no heartbeat yet: direct')
      await beat(vm.host, 10)
      assert.equal(vm.dial('240.240.1.1', 80), '15001')
      assert.equal(vm.dial('240.240.1.1', 80, asUnit), '15101')
      assert.equal(vm.dial('10.1.0.2', 8080, asUnit), '15101')
      assert.equal(vm.dial('fd01::2', 8080, asUnit), '15101')
      assert.equal(vm.dial('10.1.0.2', 22), '22', 'ssh to others is never captured')
      assert.equal(vm.dial('10.1.0.2', 9999), '9999', 'not an instance')
      assert.equal(vm.dial('127.0.0.1', 8080), '8080', 'local calls stay local')
      assert.equal(asUser(vm, 'daemon', '240.240.1.1', 80), '15102')
      assert.equal(asUser(vm, 'nobody', '10.1.0.2', 8080), '8080', 'the proxy itself')
      await beat(vm.host, 0)
      assert.equal(vm.dial('10.1.0.2', 8080, asUnit), '8080', 'all of ours dead: direct again')
      await removeCapture(vm.host)
    })

    it('takes inbound connections while alive, and sshd never', async () => {
      await applyCapture(vm.host, { ...plan, inbound: [...plan.inbound, { port: 2222, onFailure: 'open' }] })
      assert.equal(peer.dial('10.1.0.1', 8080), '8080', 'open: direct without heartbeat')
      assert.equal(peer.dial('10.1.0.1', 8081), 'ECONNREFUSED', 'closed: refused without heartbeat')
      await beat(vm.host, 10)
      assert.equal(peer.dial('10.1.0.1', 8080), '15006')
      assert.equal(peer.dial('fd01::1', 8081), '15006')
      assert.equal(peer.dial('10.1.0.1', 2222), '2222')
      assert.equal(peer.dial('10.1.0.1', 22), '22')
      await removeCapture(vm.host)
    })

    it('leaves connections that stood before alone', async () => {
      const code = `
      const s = require('node:net').connect(8080, '10.1.0.1')
      s.once('data', () => console.log('open'))
      process.stdin.on('data', (d) => { s.once('data', (e) => console.log(String(e).trim())); s.write(d) })`
      const child = peer.start(['-e', code])
      assert.ok(child.stdout && child.stdin)
      await once(child.stdout, 'data')
      await applyCapture(vm.host, plan)
      await beat(vm.host, 10)
      child.stdin.write('still here')
      const [answer] = (await once(child.stdout, 'data')) as [Buffer]
      assert.equal(String(answer).trim(), 'still here')
      await removeCapture(vm.host)
      child.kill()
    })

    it('takes everything but what is excluded in mode all', async () => {
      await applyCapture(vm.host, { ...plan, outbound: 'all' })
      await beat(vm.host, 10)
      assert.equal(vm.dial('10.1.0.2', 8080), '15001')
      assert.equal(vm.dial('10.1.0.2', 9999), '9999')
      assert.equal(vm.dial('10.1.0.2', 22), '22')
      await removeCapture(vm.host)
    })

    it('sees a flush and mends it', async () => {
      await applyCapture(vm.host, plan)
      vm.sh('iptables -t nat -F; ip6tables -t nat -D OUTPUT 1; iptables -t nat -F MESHCTL_OUTPUT')
      const seen = await captureDrift(vm.host, plan)
      assert.ok(
        seen.some((line) => line.includes('MESHCTL_OUTPUT was changed')),
        seen.join('\n'),
      )
      assert.ok(
        seen.some((line) => line.startsWith('ip6tables: missing')),
        seen.join('\n'),
      )
      await applyCapture(vm.host, plan)
      assert.deepEqual(await captureDrift(vm.host, plan), [])
      await removeCapture(vm.host)
    })

    it('puts the first family back when the second fails', async () => {
      const clean = state(vm)
      const broken = { ...plan, excludeCidrs: ['fd00::zz/64'] }
      await assert.rejects(applyCapture(vm.host, broken), { code: 'MSH0601' })
      assert.equal(state(vm), clean)
      await applyCapture(vm.host, plan)
      const good = state(vm)
      await assert.rejects(applyCapture(vm.host, broken), { code: 'MSH0601' })
      assert.equal(state(vm), good)
      await removeCapture(vm.host)
    })
  },
)

function asUser(space: Namespace, user: string, address: string, port: number): string {
  const id = sh(`id -u ${user}`).trim()
  const code = `process.setuid(${id}); const s = require('node:net').connect(${port}, '${address}');
    s.on('data', (d) => { console.log(String(d).trim()); s.destroy() }).on('error', (e) => console.log(e.code))`
  return space.sh(`exec ${process.execPath} -e '${code.replaceAll("'", `'\\''`)}'`).trim()
}

/** Rules and sets without counters, and without tables that hold nothing. */
function state(space: Namespace): string {
  const rules = space.sh('iptables-save; ip6tables-save').split('\n')
  return [
    ...rules.filter((line) => /^-A|^:\S+ -/.test(line)).map((line) => line.replace(/\[\d+:\d+\]/, '')),
    space.sh('ipset list -n; ip route show 240.240.0.0/16'),
  ].join('\n')
}
