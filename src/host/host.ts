// A machine on which things are done: this one (local.ts), another over SSH (ssh.ts), or a recorder (fake.ts).

export interface RunResult {
  readonly status: number
  readonly stdout: string
  readonly stderr: string
}

export interface RunOptions {
  /** As root, by sudo where the user is not root. Default false. */
  readonly root?: boolean
  readonly input?: string | Buffer
  readonly timeoutMs?: number
  /** Shown by --print-command instead of the input when the input is secret. */
  readonly secret?: boolean
  readonly signal?: AbortSignal
  /**
   * Takes standard output as it comes, and the result has none of it. Standard input then stays open after `input`, until
   * `signal`: a command that waits for its end is told that nobody listens any more, however the connection dies.
   */
  readonly onStdout?: (chunk: Buffer) => void
}

export interface Host {
  /** `vm1` or `user@vm1:22`, for messages. */
  readonly label: string
  /** Runs a shell command line; a non-zero status is returned, not thrown. Throws MSH0501 when the link is lost. */
  run(command: string, options?: RunOptions): Promise<RunResult>
  /** Writes a file as root, atomically (temporary file, fsync, rename). */
  put(path: string, content: string | Buffer, options?: { mode?: number; owner?: string }): Promise<void>
  /** Streams a local file to the host's path as root, with progress in bytes. */
  upload(
    localPath: string,
    path: string,
    options?: { mode?: number; progress?: (bytes: number) => void },
  ): Promise<void>
  /** A file's content; null where there is none. */
  get(path: string, options?: { root?: boolean }): Promise<Buffer | null>
  close(): void
}

/** Single quotes for sh. */
export function quote(word: string): string {
  return /^[A-Za-z0-9_\-./:=@%+,]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`
}
