// The load without any proxy: what the generator and the backend can do.
import { addresses } from '../place.ts'
import { ready, type Setting, type System } from './system.ts'

export function startDirect(setting: Setting): Promise<System> {
  const at = { host: addresses.server, port: setting.backendPort }
  return ready(setting, 'direct', 'direct', () => ({ at, close() {} }), [])
}
