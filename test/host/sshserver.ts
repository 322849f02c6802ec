// A real SSH server in this process (ssh2's): runs commands with sh, forwards connections, logs in by key or password.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { connect, type AddressInfo } from 'node:net'
import ssh2 from 'ssh2'

export interface SshServer {
  readonly port: number
  /** `ssh-ed25519 AAAA…` */
  readonly hostKey: string
  /** Channels open at the same time, at most so far. */
  peak(): number
  /** Cuts every connection. */
  cut(): void
  close(): Promise<void>
}

/** `sessions`: MaxSessions of sshd, which counts one that has ended for a moment longer. */
export async function startSshServer(options: {
  password?: string
  publicKey?: string
  sessions?: number
}): Promise<SshServer> {
  const pair = ssh2.utils.generateKeyPairSync('ed25519')
  const clients = new Set<ssh2.Connection>()
  let open = 0
  let most = 0
  const server = new ssh2.Server({ hostKeys: [pair.private] }, (client) => {
    clients.add(client)
    quick(client)
    client.on('error', () => {})
    client.on('close', () => clients.delete(client))
    client.on('authentication', (context) => {
      if (context.method === 'password' && context.password === options.password) context.accept()
      else if (context.method === 'publickey' && proves(context, options.publicKey)) context.accept()
      else context.reject(['publickey', 'password'])
    })
    client.on('tcpip', (accept, _reject, info) => {
      const socket = connect(info.destPort, info.destIP)
      const stream = accept()
      socket.on('error', () => stream.close())
      stream.on('error', () => socket.destroy())
      socket.pipe(stream).pipe(socket)
    })
    let sessions = 0
    client.on('session', (acceptSession, reject) => {
      if (sessions >= (options.sessions ?? Infinity)) return reject()
      sessions += 1
      const session = acceptSession()
      session.on('exec', (acceptExec, _reject, info) => {
        const stream = acceptExec()
        most = Math.max(most, ++open)
        const child = spawn('sh', ['-c', info.command], { stdio: 'pipe', detached: true })
        stream.pipe(child.stdin).on('error', () => {})
        child.stdout.pipe(stream, { end: false })
        child.stderr.pipe(stream.stderr, { end: false })
        child.on('close', (code) => {
          open -= 1
          stream.exit(code ?? 255)
          stream.end()
          setTimeout(() => (sessions -= 1), 20)
        })
        const end = (): void => {
          if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return
          process.kill(-child.pid, 'SIGKILL')
        }
        stream.on('close', end)
      })
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    hostKey: pair.public.trim().split(' ').slice(0, 2).join(' '),
    peak: () => most,
    cut: () => {
      for (const client of clients) client.end()
    },
    close: async () => {
      for (const client of clients) client.end()
      await new Promise<void>((resolve) => server.close(() => resolve()))
    },
  }
}

/** As sshd does; the types of ssh2 do not know of it. */
function quick(client: object): void {
  ;(client as { setNoDelay(on: boolean): void }).setNoDelay(true)
}

function proves(context: ssh2.PublicKeyAuthContext, publicKey: string | undefined): boolean {
  if (publicKey === undefined) return false
  const allowed = ssh2.utils.parseKey(publicKey)
  if (allowed instanceof Error || Array.isArray(allowed)) return false
  if (!context.key.data.equals(allowed.getPublicSSH())) return false
  if (context.signature === undefined || context.blob === undefined) return true
  return allowed.verify(context.blob, context.signature, context.hashAlgo) === true
}
