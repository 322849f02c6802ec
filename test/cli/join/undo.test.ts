// undo.sh, run for real: in a network namespace of its own, and in a mount namespace where /etc, /opt and so on are copies.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { resolve } from 'node:path'
import { test } from 'node:test'
import { canUseNamespaces } from '../../host/netns.ts'

const script = resolve('templates/undo.sh')

/** Runs sh in namespaces of its own, with empty memory over every place that a join writes to. */
function inside(body: string): string {
  const setup = `
    set -e
    mount --make-rprivate /
    cat > /tmp/meshctl-undo-$$ < ${script}; undo=/tmp/meshctl-undo-$$
    conf=$(cat /etc/resolv.conf); passwd=$(cat /etc/passwd); group=$(cat /etc/group)
    for folder in /etc /opt /usr/local/bin /var/lib /var/log /run; do mount -t tmpfs tmpfs $folder; done
    mkdir -p /etc/systemd/system /var/lib/meshctl/journal
    echo "$passwd" > /etc/passwd; echo "$group" > /etc/group; printf 'nameserver 10.0.0.1\\n' > /etc/resolv.conf
    ip link set lo up
    cp "$undo" /var/lib/meshctl/journal/undo.sh; rm "$undo"
    set +e`
  const result = spawnSync('unshare', ['--mount', '--net', 'sh', '-c', `${setup}\n${body}`], {
    encoding: 'utf8',
    timeout: 60_000,
  })
  return (
    result.stdout +
    result.stderr
      .split('\n')
      .filter((line) => line.startsWith('meshctl undo'))
      .join('\n')
  )
}

test(
  'undo.sh removes everything of ours and nothing of others',
  { skip: canUseNamespaces ? false : 'needs root' },
  () => {
    const out = inside(`
    iptables -t nat -A OUTPUT -d 192.0.2.1 -j RETURN
    ipset create others hash:ip
    iptables-save | grep -v '^#' | sed 's/\\[.*//' > /var/log/before
    ipset create meshctl_alive hash:net timeout 10
    iptables -t nat -N MESHCTL_OUTPUT; iptables -t nat -N MESHCTL_ID_1
    iptables -t nat -A MESHCTL_OUTPUT -m set --match-set meshctl_alive dst -j MESHCTL_ID_1
    iptables -t nat -I OUTPUT -p tcp --syn -j MESHCTL_OUTPUT
    ip route add 240.240.0.0/16 dev lo
    mkdir -p /etc/meshctl /opt/meshctl/release /var/log/meshctl /etc/systemd/system/web.service.d /etc/systemd/system/db.service.d
    echo x > /etc/systemd/system/meshctl-agent.service; echo x > /usr/local/bin/meshctl; echo x > /usr/local/bin/other
    echo x > /etc/systemd/system/web.service.d/50-meshctl.conf; echo x > /etc/systemd/system/db.service.d/50-meshctl.conf
    echo x > /etc/systemd/system/db.service.d/own.conf
    echo /etc/systemd/system/web.service.d > /var/lib/meshctl/journal/folders
    mkdir /var/lib/meshctl/journal/resolver
    cp -p /etc/resolv.conf /var/lib/meshctl/journal/resolver/resolv.conf
    printf '# added by meshctl; everything but *.mesh goes on to the servers below\\nnameserver 127.0.0.153\\nnameserver 10.0.0.1\\n' > /etc/resolv.conf
    cp /etc/resolv.conf /var/lib/meshctl/journal/resolver/resolv.conf.ours
    sh /var/lib/meshctl/journal/undo.sh all; echo "status $?"
    iptables-save | grep -v '^#' | sed 's/\\[.*//' | cmp -s - /var/log/before && echo 'rules equal'
    echo "sets $(ipset list -n | tr '\\n' ' ')"
    echo "route $(ip route show 240.240.0.0/16)"
    echo "resolver $(cat /etc/resolv.conf)"
    find /etc /opt /usr/local/bin /var/lib /var/log /run -type f -o -type d -empty | grep -v -e /etc/passwd -e /etc/group -e before | sort | tr '\\n' ' '
  `)
    assert.match(out, /^status 0$/m, out)
    assert.match(out, /^rules equal$/m, out)
    assert.match(out, /^sets others $/m)
    assert.match(out, /^route $/m)
    assert.match(out, /^resolver nameserver 10\.0\.0\.1$/m)
    const left = out
      .trim()
      .split('\n')
      .at(-1)
      ?.trim()
      .split(' ')
      .filter((path) => path.includes('meshctl') || path.includes('.d'))
    assert.deepEqual(left, ['/etc/systemd/system/db.service.d/own.conf'])
  },
)

test(
  'undo.sh check waits for the operator, and acts when he is gone',
  { skip: canUseNamespaces ? false : 'needs root' },
  () => {
    const out = inside(`
    mkdir -p /etc/meshctl
    read -r now rest < /proc/uptime; now=\${now%%.*}; boot=$(cat /proc/sys/kernel/random/boot_id)
    echo "$boot $((now + 100)) all" > /var/lib/meshctl/journal/pending
    sh /var/lib/meshctl/journal/undo.sh check; [ -d /etc/meshctl ] && echo 'waits'
    echo "$boot $((now - 1)) all" > /var/lib/meshctl/journal/pending
    sh /var/lib/meshctl/journal/undo.sh check; [ ! -e /etc/meshctl ] && [ ! -e /var/lib/meshctl ] && echo 'acts'
  `)
    assert.match(out, /^waits$/m, out)
    assert.match(out, /^acts$/m, out)
  },
)

test('undo.sh check does not wait after a reboot', { skip: canUseNamespaces ? false : 'needs root' }, () => {
  const out = inside(`
    mkdir -p /etc/meshctl
    echo "another-boot 99999999 all" > /var/lib/meshctl/journal/pending
    sh /var/lib/meshctl/journal/undo.sh check; [ ! -e /etc/meshctl ] && echo 'acts'
  `)
  assert.match(out, /^acts$/m, out)
})
