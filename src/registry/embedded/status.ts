// /v1/status and what else says who is there.
import { version } from '../../version.ts'
import { mayRead } from './access.ts'
import { datacenter } from './catalog.ts'
import { ok } from './request.ts'
import type { Route } from './request.ts'
import { Fault } from './fault.ts'

/** `address`: this server's, the only one and so always the leader. */
export function statusRoutes(nodeName: string, address: () => string): Route[] {
  return [
    { method: 'GET', path: 'status/leader', handle: ({ who }) => (mayRead(who), ok(address())) },
    { method: 'GET', path: 'status/peers', handle: ({ who }) => (mayRead(who), ok([address()])) },
    {
      method: 'GET',
      path: 'agent/self',
      handle: ({ who }) => {
        mayRead(who)
        return ok({
          Config: {
            Datacenter: datacenter,
            NodeName: nodeName,
            Server: true,
            Version: version,
            Revision: 'meshctl',
          },
          Member: { Name: nodeName, Addr: address().replace(/:\d+$/, ''), Status: 1 },
          Meta: {},
        })
      },
    },
    {
      method: 'GET',
      path: 'acl/token/self',
      handle: ({ who }) => {
        if (who.kind === 'anonymous') throw new Fault(403, 'ACL not found')
        const name = who.kind === 'host' ? `host ${who.host} of mesh ${who.mesh}` : 'management'
        return ok({ Description: name, Policies: [{ Name: who.kind }], Local: true })
      },
    },
  ]
}
