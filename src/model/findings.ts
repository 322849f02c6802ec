// What the check of one object sees, and where it says what it finds.
import type { Resource } from './resource.ts'
import type { Path } from './text.ts'

export interface Findings {
  error(path: Path, message: string, hint?: string): void
  warn(path: Path, message: string, hint?: string): void
}

/** All objects as they will be after the write. */
export interface World {
  readonly resources: readonly Resource[]
  /** Whether the registry's own objects are among them. */
  readonly complete: boolean
}
