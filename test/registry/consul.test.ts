import { contract } from './contract.ts'
import { configFor, startConsul } from './place.ts'

contract('Consul 1.8', async () => {
  const consul = await startConsul()
  return { config: configFor(consul.url), close: () => consul.close() }
})
