// What every part of one worker shares. Made once by the engine.
import type { Clock } from '../clock.ts'
import type { Log } from '../log.ts'
import type { Wheel } from '../net/wheel.ts'
import type { Recorders } from './filter/metrics.ts'
import type { Lines } from './lines.ts'
import type { Live } from './live.ts'
import type { SecretStore } from './secret.ts'

export interface Core {
  readonly clock: Clock
  readonly wheel: Wheel
  readonly log: Log
  readonly recorders: Recorders
  readonly accessLog: Lines
  readonly secrets: SecretStore
  /** Who spoke first on an `auto` port, by service port; survives swaps. */
  readonly learned: Map<string, 'client' | 'server'>
  /** The one pointer. Read once per exchange. */
  live: Live | null
  /** Finish what runs, take nothing more. */
  draining: boolean
}
