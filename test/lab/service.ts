// Services and users of a lab's hosts, as an administrator would have set them up before any mesh.
import type { Lab } from './lab.ts'
import { until } from './shell.ts'

export interface WebOptions {
  readonly unit?: string
  readonly version?: string
  readonly port?: number
  readonly marker?: string
  readonly address?: string
}

/** A web service (app/web.ts) as a systemd unit of its own, running. */
export async function startWeb(lab: Lab, host: string, options: WebOptions = {}): Promise<void> {
  const { unit = 'web', version = 'v1', port = 8080, marker = 'no-marker', address = '0.0.0.0' } = options
  const text = `[Unit]
Description=web ${version}

[Service]
ExecStart=/lab/app/node /lab/app/web.ts
Environment=VERSION=${version} PORT=${port} MARKER=${marker} HOST=${address}
DynamicUser=no

[Install]
WantedBy=multi-user.target
`
  await lab.do(
    host,
    `cat > /etc/systemd/system/${unit}.service && systemctl daemon-reload && systemctl -q enable --now ${unit}.service`,
    {
      input: text,
    },
  )
  await until(`${unit} on ${host} to listen on ${port}`, async () => {
    const done = await lab.enter(host, `curl -s -m 2 -o /dev/null http://127.0.0.1:${port}/healthz`)
    return done.status === 0
  })
}

export async function addUser(lab: Lab, host: string, user: string): Promise<void> {
  await lab.do(host, `id ${user} >/dev/null 2>&1 || useradd -m -s /bin/bash ${user}`)
}

export interface LoadResult {
  readonly sent: number
  readonly ok: number
  /** Those that failed: what happened, when they began and ended (milliseconds since the epoch). */
  readonly failed: readonly { readonly why: string; readonly began: number; readonly ended: number }[]
  /** Answers by the version that gave them. */
  readonly versions: Readonly<Record<string, number>>
  readonly p99_ms: number
  readonly max_ms: number
}

/** Load from a host as one of its users; resolves when it is over. */
export async function loadFrom(
  lab: Lab,
  host: string,
  options: { user: string; url: string; seconds: number; workers: number },
): Promise<LoadResult> {
  const words = [options.url, String(options.seconds), String(options.workers)]
    .map((word) => `'${word}'`)
    .join(' ')
  const text = await lab.do(host, `/lab/app/node /lab/app/load.ts ${words}`, {
    user: options.user,
    timeoutMs: (options.seconds + 60) * 1000,
  })
  return JSON.parse(text) as LoadResult
}
