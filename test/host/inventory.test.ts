import assert from 'node:assert/strict'
import { test } from 'node:test'
import { attribute, compareInventory, parseInventory } from '../../src/host/inventory.ts'

const hash = 'a'.repeat(64)
const before = `@@files
${hash}  /etc/hosts
@@modes
f 644 root:root /etc/hosts\t
l 777 root:root /etc/localtime\t/usr/share/zoneinfo/UTC
f 600 root:root /etc/passwd-\t
d 755 root:root /opt\t
@@units
ssh.service enabled
session-1.scope transient
@@iptables
*nat
:PREROUTING ACCEPT [5:300]
:DOCKER - [0:0]
-A PREROUTING -j DOCKER
COMMIT
@@ipset
others
`

test('an inventory is equal to itself, whatever counters and empty tables say', () => {
  const after = `${before.replace('[5:300]', '[9:900]').replace('COMMIT', 'COMMIT\n*filter\n:INPUT ACCEPT [0:0]\nCOMMIT')}`
  assert.deepEqual(compareInventory(parseInventory(before), parseInventory(after)), [])
})

test('every kind of difference has a line', () => {
  const after = before
    .replace(hash, 'b'.repeat(64))
    .replace('enabled', 'disabled')
    .replace('-A PREROUTING -j DOCKER\n', '-A PREROUTING -j DOCKER\n-A PREROUTING -j MESHCTL_INPUT\n')
    .replace('others', 'others\nmeshctl_alive')
    .replace('d 755 root:root /opt\t', 'd 755 root:root /opt\t\nd 755 root:root /opt/left\t')
  assert.deepEqual(compareInventory(parseInventory(before), parseInventory(after)), [
    `changed: file /etc/hosts (0644 root:root ${'a'.repeat(16)} → 0644 root:root ${'b'.repeat(16)})`,
    'new: file /opt/left',
    'new: ipset meshctl_alive',
    'new: iptables nat -A PREROUTING -j MESHCTL_INPUT',
    'changed: unit ssh.service (enabled → disabled)',
  ])
})

test('tells what a join could have left from what others did meanwhile', () => {
  const ours = [
    'new: iptables nat chain MESHCTL_OUTPUT',
    'new: file /etc/systemd/system/web.service.d',
    'gone: file /opt',
    'changed: file /etc/resolv.conf (0644 root:root 1 → 0644 root:root 2)',
    'new: users meshctl-proxy:999:/nonexistent:/usr/sbin/nologin',
    'new: ipset meshctl_alive',
  ]
  const others = [
    'changed: file /etc/hosts (0644 root:root 1 → 0644 root:root 2)',
    'new: file /opt/backup',
    'new: file /etc/systemd/system/backup.service.d/limits.conf',
    'new: unit backup.service',
    'new: iptables filter -A INPUT -s 192.0.2.1/32 -j DROP',
  ]
  assert.deepEqual(attribute([...ours, ...others]), { ours, others })
})
