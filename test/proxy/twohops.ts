// Two hops in a process of their own, to be watched from outside: told the port of an application, it says on which port it
// is to be called.
import type { TestContext } from 'node:test'
import { Authority, Caller, Instance } from './hops.ts'

// There is no test here that ends: the process does.
const t = { after() {} } as unknown as TestContext
const authority = new Authority()
const settings = { accessLog: false }
const instance = await new Instance(t, Number(process.argv[2]), { settings }).start(authority)
const subsets = [{ name: '', weight: 100, endpoints: [instance.endpoint()] }]
const caller = await new Caller(t).start(authority, { subsets, settings })
process.stdout.write(`${caller.port}\n`)
