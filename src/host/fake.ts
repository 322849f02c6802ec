// A host on which nothing happens: it records what would be done, for tests of what is asked.
import type { Host, RunOptions, RunResult } from './host.ts'

export type Action =
  | { readonly verb: 'run'; readonly command: string; readonly root: boolean; readonly input: string }
  | {
      readonly verb: 'put'
      readonly path: string
      readonly bytes: number
      readonly mode: number
      readonly owner: string
    }
  | { readonly verb: 'upload'; readonly localPath: string; readonly path: string }

/** What a command answers; null: success without output. */
export type Answer = (command: string, options: RunOptions) => RunResult | null

export class FakeHost implements Host {
  readonly label: string
  readonly actions: Action[] = []
  readonly files = new Map<string, Buffer>()
  readonly #answer: Answer

  constructor(label: string = 'fake', answer: Answer = () => null) {
    this.label = label
    this.#answer = answer
  }

  run(command: string, options: RunOptions = {}): Promise<RunResult> {
    const input = options.secret === true ? '(secret)' : String(options.input ?? '')
    this.actions.push({ verb: 'run', command, root: options.root === true, input })
    return Promise.resolve(this.#answer(command, options) ?? { status: 0, stdout: '', stderr: '' })
  }

  put(
    path: string,
    content: string | Buffer,
    options: { mode?: number; owner?: string } = {},
  ): Promise<void> {
    const bytes = Buffer.from(content)
    this.files.set(path, bytes)
    this.actions.push({
      verb: 'put',
      path,
      bytes: bytes.length,
      mode: options.mode ?? 0o644,
      owner: options.owner ?? 'root',
    })
    return Promise.resolve()
  }

  upload(localPath: string, path: string): Promise<void> {
    this.actions.push({ verb: 'upload', localPath, path })
    return Promise.resolve()
  }

  get(path: string): Promise<Buffer | null> {
    return Promise.resolve(this.files.get(path) ?? null)
  }

  close(): void {}
}
