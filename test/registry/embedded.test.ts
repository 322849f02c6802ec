import { contract } from './contract.ts'
import { configFor, embedded, managementToken } from './place.ts'

contract('embedded', async () => {
  const server = await embedded({ minSessionTtlMs: 1000 })
  return {
    config: configFor(`http://127.0.0.1:${server.port}`, { token: managementToken }),
    close: () => server.close(),
  }
})
