import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import {
  drift,
  identityInput,
  removal,
  render,
  restoration,
  type ResolvedCapture,
} from '../../src/host/iptables.ts'

const plan: ResolvedCapture = {
  outbound: 'mesh',
  inbound: [
    { port: 8080, onFailure: 'open' },
    { port: 9090, onFailure: 'closed' },
  ],
  identities: [
    { capturePort: 15101, match: { cgroup: 'system.slice/system-web\\x2dapp.slice/web@1.service' } },
    { capturePort: 15102, match: { uid: 1001 } },
    { capturePort: 15103, match: null },
  ],
  proxyUid: 998,
  exemptCgroups: ['system.slice/meshctl-agent.service'],
  sshPorts: [22],
  excludePorts: [5432, 15001],
  excludeCidrs: ['10.9.0.0/16', 'fd09::/64'],
}

const golden4 = String.raw`*nat
:MESHCTL_OUTPUT - [0:0]
:MESHCTL_CALLER - [0:0]
:MESHCTL_ID_1 - [0:0]
:MESHCTL_ID_2 - [0:0]
:MESHCTL_ID_3 - [0:0]
:MESHCTL_INPUT - [0:0]
-A MESHCTL_OUTPUT -m owner --uid-owner 998 -j RETURN
-A MESHCTL_OUTPUT -m cgroup --path "system.slice/meshctl-agent.service" -j RETURN
-A MESHCTL_OUTPUT -d 127.0.0.0/8 -j RETURN
-A MESHCTL_OUTPUT -p tcp -m multiport --dports 22,5432,15000:15199 -j RETURN
-A MESHCTL_OUTPUT -d 10.9.0.0/16 -j RETURN
-A MESHCTL_OUTPUT -m set ! --match-set meshctl_alive dst -j RETURN
-A MESHCTL_OUTPUT -d 240.240.0.0/16 -j MESHCTL_CALLER
-A MESHCTL_OUTPUT -m set --match-set meshctl_inst dst,dst -j MESHCTL_CALLER
-A MESHCTL_CALLER -j MESHCTL_ID_1
-A MESHCTL_CALLER -j MESHCTL_ID_2
-A MESHCTL_CALLER -j MESHCTL_ID_3
-A MESHCTL_CALLER -p tcp -j REDIRECT --to-ports 15001
-A MESHCTL_ID_1 -p tcp -m cgroup --path "system.slice/system-web\\x2dapp.slice/web@1.service" -j REDIRECT --to-ports 15101
-A MESHCTL_ID_2 -p tcp -m owner --uid-owner 1001 -j REDIRECT --to-ports 15102
-A MESHCTL_INPUT -p tcp -m multiport --dports 22 -j RETURN
-A MESHCTL_INPUT -p tcp -m tcp --dport 8080 -m set --match-set meshctl_alive src -j REDIRECT --to-ports 15006
-A MESHCTL_INPUT -p tcp -m tcp --dport 9090 -j REDIRECT --to-ports 15006
-I OUTPUT 1 -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j MESHCTL_OUTPUT
-I PREROUTING 1 -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -m addrtype --dst-type LOCAL -j MESHCTL_INPUT
COMMIT
*filter
:MESHCTL_GUARD - [0:0]
:MESHCTL_REFUSE - [0:0]
-A MESHCTL_GUARD -d 240.240.0.0/16 -p tcp -j REJECT --reject-with tcp-reset
-A MESHCTL_GUARD -d 240.240.0.0/16 -j REJECT --reject-with icmp-port-unreachable
-A MESHCTL_REFUSE -p tcp -m set ! --match-set meshctl_alive src -m conntrack --ctorigdstport 9090 -j REJECT --reject-with tcp-reset
-I OUTPUT 1 -j MESHCTL_GUARD
-I INPUT 1 ! -i lo -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j MESHCTL_REFUSE
COMMIT
`

/** Rendered input as iptables-save would print it afterwards. */
function asSaved(input: string): string {
  return input.replaceAll(/^-I (\S+) 1 /gm, '-A $1 ')
}

describe('capture as iptables-restore input', () => {
  it('renders IPv4 as the golden text', () => {
    assert.equal(render(plan, 4), golden4)
  })

  it('renders IPv6 with its own sets, no virtual addresses and its own networks', () => {
    const text = render(plan, 6)
    assert.match(text, /-d ::1\/128 -j RETURN/)
    assert.match(text, /-d fd09::\/64 -j RETURN/)
    assert.match(text, /match-set meshctl_alive6 dst/)
    assert.doesNotMatch(text, /240\.240|127\.0\.0|10\.9\.0|GUARD/)
  })

  it('never redirects without --syn, and puts no jump twice', () => {
    const again = render(plan, 4, asSaved(golden4))
    assert.doesNotMatch(again, /^-[ID] (OUTPUT|PREROUTING|INPUT)/m)
    for (const jump of golden4.match(/^-I .*MESHCTL_(OUTPUT|INPUT|REFUSE)$/gm) ?? [])
      assert.match(jump, /tcp-flags FIN,SYN,RST,ACK SYN/)
  })

  it('sees no drift in what it rendered, and names what is changed', () => {
    const saved = asSaved(golden4)
    assert.deepEqual(drift(plan, 4, saved), [])
    assert.deepEqual(drift(plan, 4, ''), [
      'iptables: chain MESHCTL_OUTPUT is gone',
      'iptables: chain MESHCTL_CALLER is gone',
      'iptables: chain MESHCTL_ID_1 is gone',
      'iptables: chain MESHCTL_ID_2 is gone',
      'iptables: chain MESHCTL_ID_3 is gone',
      'iptables: chain MESHCTL_INPUT is gone',
      'iptables: missing: -A OUTPUT -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j MESHCTL_OUTPUT',
      'iptables: missing: -A PREROUTING -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -m addrtype --dst-type LOCAL -j MESHCTL_INPUT',
      'iptables: chain MESHCTL_GUARD is gone',
      'iptables: chain MESHCTL_REFUSE is gone',
      'iptables: missing: -A OUTPUT -j MESHCTL_GUARD',
      'iptables: missing: -A INPUT ! -i lo -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j MESHCTL_REFUSE',
    ])
  })

  it('writes networks as the kernel gives them back, however the user wrote them', () => {
    const cidrs = [
      '10.99.1.5/8',
      '192.168.255.255/23',
      '1.2.3.4',
      '0.0.0.0/0',
      'FD00:0::5/16',
      '::/0',
      'fe80::7/127',
    ]
    const lines = ([4, 6] as const).flatMap((family) =>
      [
        ...render({ ...plan, excludeCidrs: cidrs }, family).matchAll(
          /^-A MESHCTL_OUTPUT (-d (\S+) )?-j RETURN$/gm,
        ),
      ].map((found) => found[2] ?? 'all'),
    )
    assert.deepEqual(lines, [
      '127.0.0.0/8',
      '10.0.0.0/8',
      '192.168.254.0/23',
      '1.2.3.4/32',
      'all',
      '::1/128',
      'fd00::/16',
      'all',
      'fe80::6/127',
    ])
  })

  it('removes only what is its own', () => {
    const others =
      '*nat\n:PREROUTING ACCEPT [0:0]\n:DOCKER - [0:0]\n-A OUTPUT -m addrtype --dst-type LOCAL -j DOCKER\nCOMMIT\n'
    assert.equal(removal(others), '')
    const input = removal(others + asSaved(golden4))
    assert.doesNotMatch(input, /DOCKER/)
    assert.match(input, /^-D OUTPUT -p tcp .*-j MESHCTL_OUTPUT$/m)
    assert.match(input, /^-X MESHCTL_ID_3$/m)
  })

  it('gets from one plan to another and back', () => {
    const smaller = { ...plan, identities: [], inbound: [] }
    const before = asSaved(golden4)
    const input = render(smaller, 4, before)
    assert.match(input, /^-X MESHCTL_ID_1$/m)
    assert.match(input, /^-D PREROUTING /m)
    assert.equal(asSaved(restoration(before, '')), before)
  })

  it('renders one identity for the drop-in of its unit', () => {
    assert.equal(
      identityInput(15102, { cgroup: 'system.slice/web.service' }),
      '*nat\n:MESHCTL_ID_2 - [0:0]\n-A MESHCTL_ID_2 -p tcp -m cgroup --path "system.slice/web.service" -j REDIRECT --to-ports 15102\nCOMMIT\n',
    )
  })
})
