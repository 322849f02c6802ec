import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { gatherFacts, parseFacts, type HostFacts } from '../../src/host/facts.ts'
import { LocalHost } from '../../src/host/local.ts'
import { failed, unfit } from '../../src/host/finding.ts'
import { preflight, type Wanted } from '../../src/host/preflight.ts'

const text = `
@@os
PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"
ID=debian
VERSION_ID="12"
@@arch
x86_64
@@kernel
6.1.0
@@hostname
vm1
@@addresses
10.0.0.5/24
fd00::5/64
@@boot
8d7c
@@uid
0
@@systemd
systemd 252 (252.1-1)
running
@@iptables
iptables v1.8.9 (nf_tables)
@@other
0
@@ipv6
0
@@ip6tables
yes
@@ipset
ipset v7.17, protocol version: 7
@@matches
redirect
owner
conntrack
set
cgroup
@@cgroup
v2
@@sshd
2222
@@listeners
LISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:(("sshd",pid=100,fd=3))
LISTEN 0 128 [::]:8080 [::]:* users:(("java",pid=101,fd=3))
LISTEN 0 128 127.0.0.1:8500 0.0.0.0:* users:(("consul",pid=102,fd=3))
@@datagram
@@disk
/opt 1048576
/var/lib 1048576
@@memory
MemTotal:        2048000 kB
2048000
@@installed
@@users
root
web
@@units
web.service
shop@.service
@@tools
@@selinux
@@resolv
nameserver 127.0.0.53
@@resolvlink
/run/systemd/resolve/stub-resolv.conf
@@resolved
active
@@resolvectl
Global: 127.0.0.153
Link 2 (eth0): 10.0.0.1
@@time
1000500000000
`

const context = {
  root: true,
  why: '',
  session: '10.0.0.9 51000 10.0.0.5 22022',
  before: 1_000_000,
  after: 1_000_600,
}
const facts = parseFacts(text.replace('MemTotal:        2048000 kB\n', ''), context)
const wanted: Wanted = {
  servicePorts: [8080],
  dns: 'resolved',
  capture: true,
  users: ['web'],
  units: ['web.service', 'shop@blue.service'],
  mesh: 'm',
  host: 'vm1',
}

function errors(change: Partial<HostFacts>, want: Partial<Wanted> = {}): string[] {
  return preflight({ ...facts, ...change }, { ...wanted, ...want })
    .filter(({ level }) => level === 'error')
    .map(({ subject, message, hint }) => `${subject}: ${message} | ${hint}`)
}

describe('facts of a host', () => {
  it('are read from the script', () => {
    assert.equal(facts.arch, 'x64')
    assert.deepEqual(facts.systemd, { version: 252, state: 'running' })
    assert.deepEqual(facts.iptables, { version: '1.8.9', flavour: 'nft', mixed: false })
    assert.deepEqual(facts.addresses, ['10.0.0.5', 'fd00::5'])
    assert.deepEqual(facts.sshPorts, [22, 2222, 22022], 'configured, listening, and that of this session')
    assert.equal(facts.sessionPeer, '10.0.0.9')
    assert.equal(facts.clockSkewMs, 0)
    assert.equal(facts.consulAgent, true)
    assert.equal(facts.resolver.kind, 'resolved')
    assert.deepEqual(facts.resolver.servers, ['10.0.0.1'], 'ours is not one that was there')
  })

  it('are gathered on this machine', async () => {
    const here = await gatherFacts(new LocalHost())
    assert.match(here.arch, /^(x64|arm64)$/)
    assert.ok(here.memoryMb > 0)
    assert.ok(Math.abs(here.clockSkewMs) < 1000)
  })
})

describe('preflight', () => {
  it('lets a fit host through', () => {
    const findings = preflight(facts, wanted)
    assert.equal(failed(findings), false, JSON.stringify(findings))
  })

  it('warns of a unit that is not there', () => {
    const found = preflight(facts, { ...wanted, units: ['web.service', 'wbe.service'] })
    assert.equal(failed(found), false)
    assert.deepEqual(
      found.filter(({ level }) => level === 'warn').map(({ subject }) => subject),
      ['unit wbe.service'],
    )
  })

  it('fails with each hint once', () => {
    const one = unfit('vm1', preflight({ ...facts, iptables: null }, wanted))
    assert.equal(one.message, 'vm1: iptables: not installed: iptables')
    assert.equal(one.hint, 'sudo apt-get install -y iptables')
    assert.deepEqual(one.details, [])
    const two = unfit('vm1', preflight({ ...facts, iptables: null }, { ...wanted, users: ['nobody-such'] }))
    assert.equal(two.message, 'vm1: 2 problems')
    assert.equal(two.hint, undefined)
    assert.match(two.details[1] ?? '', /^user nobody-such: .* — useradd/)
  })

  it('names what is missing and how to get it', () => {
    assert.deepEqual(errors({ iptables: null, ipset: false }), [
      'iptables, ipset: not installed: iptables, ipset | sudo apt-get install -y iptables ipset',
    ])
    const centos = { id: 'centos', like: 'rhel fedora', version: '9', name: 'CentOS' }
    assert.match(errors({ ipset: false, os: centos })[0] ?? '', /sudo dnf install -y ipset/)
    assert.match(errors({ missingTools: ['ss'] })[0] ?? '', /iproute2/)
    assert.match(errors({ matches: { ...facts.matches, owner: false } })[0] ?? '', /kernel module xt_owner/)
  })

  it('refuses what would break the host or the mesh', () => {
    assert.match(
      errors({ iptables: { version: '1', flavour: 'nft', mixed: true } })[0] ?? '',
      /both flavours/,
    )
    assert.match(errors({}, { servicePorts: [22] })[0] ?? '', /sshd's port/)
    assert.match(errors({}, { servicePorts: [15008] })[0] ?? '', /meshctl uses this port/)
    assert.match(errors({ clockSkewMs: -60_000 })[0] ?? '', /60.0 s behind/)
    assert.match(errors({ root: false, rootReason: 'a password is required' })[0] ?? '', /no root rights/)
    assert.match(errors({ systemd: null })[0] ?? '', /does not run systemd/)
    assert.match(errors({ diskFreeMb: { '/opt': 10 } })[0] ?? '', /10 MB free/)
    assert.match(errors({}, { users: ['nobody-here'] })[0] ?? '', /no such user/)
    const taken = [...facts.listeners, { address: '0.0.0.0', port: 15006, process: 'envoy' }]
    assert.match(errors({ listeners: taken })[0] ?? '', /envoy listens/)
    const managed = { ...facts.resolver, kind: 'managed' as const, by: 'NetworkManager' }
    assert.match(errors({ resolver: managed }, { dns: 'resolv.conf' })[0] ?? '', /NetworkManager/)
    const held = { ...facts.resolver, holder: 'dnsmasq' }
    assert.match(errors({ resolver: held })[0] ?? '', /dns: dnsmasq listens on 127.0.0.153:53/)
    assert.deepEqual(errors({ resolver: held }, { dns: 'off' }), [])
    const open = preflight({ ...facts, resolver: { ...facts.resolver, isOpenToAll: true } }, wanted)
    assert.match(open.find(({ level }) => level === 'warn')?.message ?? '', /any user may listen on port 53/)
    assert.deepEqual(errors({ resolver: held, installed: { mesh: 'm', host: 'vm1', release: 'x' } }), [])
  })

  it('tells a re-join from a host of another mesh', () => {
    const joined = { mesh: 'm', host: 'vm1', release: 'x' }
    assert.deepEqual(errors({ installed: joined }), [])
    assert.match(errors({ installed: { ...joined, mesh: 'other' } })[0] ?? '', /in mesh "other"/)
    assert.match(errors({ installed: { ...joined, host: 'vm9' } })[0] ?? '', /joined as "vm9"/)
  })
})
