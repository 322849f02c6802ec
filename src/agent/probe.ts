// One look at a local service: http, tcp, systemd unit or script, with Consul's meaning of the results.
import { spawn } from 'node:child_process'
import { request as httpRequest } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { connect } from 'node:net'
import { reason } from '../errors.ts'
import { parseAddress } from '../net/addr.ts'
import type { CheckDefinition } from '../model/service.ts'
import type { CheckStatus } from '../registry/registry.ts'

export interface Finding {
  readonly status: CheckStatus
  /** One short text for people. */
  readonly output: string
}

export interface ProbeContext {
  readonly timeoutMs: number
  /** Who runs scripts; null: the agent's own user. */
  readonly runAs: { readonly uid: number; readonly gid: number } | null
}

const maxOutput = 1024

/** Never throws and never takes longer than its timeout: what goes wrong is a finding. */
export async function probe(check: CheckDefinition, context: ProbeContext): Promise<Finding> {
  if ('http' in check) return await http(check, context)
  if ('tcp' in check) return await tcp(check.tcp, context)
  if ('os_service' in check) {
    return await program(
      'systemctl',
      ['is-active', check.os_service],
      { ...context, runAs: null },
      check.os_service,
    )
  }
  const [command, ...rest] = check.args
  if (command === undefined) return critical('the check names no program')
  return await program(command, rest, context, command)
}

function http(
  check: Extract<CheckDefinition, { readonly http: string }>,
  { timeoutMs }: ProbeContext,
): Promise<Finding> {
  return new Promise((resolve) => {
    const url = URL.parse(check.http)
    if (url === null || !/^https?:$/.test(url.protocol))
      return resolve(critical(`not an http URL: ${check.http}`))
    const request = (url.protocol === 'https:' ? httpsRequest : httpRequest)(url, {
      method: check.method ?? 'GET',
      headers: { 'user-agent': 'meshctl-check', ...writable(check.header) },
      // A connection of its own each time: a kept one would hide an application that takes no new ones.
      agent: false,
      signal: AbortSignal.timeout(timeoutMs),
    })
    request.on('response', (response) => {
      const code = response.statusCode ?? 0
      response.destroy()
      const output =
        `HTTP ${check.method ?? 'GET'} ${check.http}: ${code} ${response.statusMessage ?? ''}`.trim()
      if (code >= 200 && code < 300) resolve({ status: 'passing', output })
      // Consul: 429 Too Many Requests is a warning.
      else resolve(code === 429 ? { status: 'warning', output } : critical(output))
    })
    request.on('error', (error) => {
      const late = error.name === 'AbortError' || error.name === 'TimeoutError'
      resolve(critical(`HTTP ${check.http}: ${late ? `no answer within ${timeoutMs} ms` : reason(error)}`))
    })
    request.end()
  })
}

function writable(header: Readonly<Record<string, readonly string[]>> | undefined): Record<string, string[]> {
  return Object.fromEntries(
    Object.entries(header ?? {}).map(([name, values]) => [name.toLowerCase(), [...values]]),
  )
}

function tcp(target: string, { timeoutMs }: ProbeContext): Promise<Finding> {
  return new Promise((resolve) => {
    const at = parseAddress(target.replace(/^localhost:/, '127.0.0.1:'))
    if (at === null) return resolve(critical(`not an address and port: ${target}`))
    const socket = connect({ host: at.address, port: at.port, timeout: timeoutMs })
    const end = (finding: Finding): void => {
      socket.destroy()
      resolve(finding)
    }
    socket.on('connect', () => end({ status: 'passing', output: `TCP connect ${target}: ok` }))
    socket.on('timeout', () => end(critical(`TCP connect ${target}: no answer within ${timeoutMs} ms`)))
    socket.on('error', (error) => end(critical(`TCP connect ${target}: ${reason(error)}`)))
  })
}

/** Exit status 0 passes, 1 warns, everything else is critical. At the timeout the whole process group goes. */
function program(
  command: string,
  args: readonly string[],
  { timeoutMs, runAs }: ProbeContext,
  label: string,
): Promise<Finding> {
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
      // Not the agent's environment: a script needs none of it.
      env: { PATH: process.env['PATH'] ?? '/usr/bin:/bin', LANG: 'C.UTF-8' },
      ...runAs,
    })
    let output = ''
    let late = false
    const timer = setTimeout(() => {
      late = true
      try {
        if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL')
      } catch {
        // It ended in the meantime.
      }
    }, timeoutMs)
    const read = (bytes: Buffer): void => {
      if (output.length < maxOutput) output = (output + bytes.toString('utf8')).slice(0, maxOutput)
    }
    child.stdout.on('data', read)
    child.stderr.on('data', read)
    child.on('error', (error) => {
      clearTimeout(timer)
      resolve(critical(`${label}: ${reason(error)}`))
    })
    child.on('close', (status, signal) => {
      clearTimeout(timer)
      const said = output.trim()
      if (late) return resolve(critical(`${label}: not finished within ${timeoutMs} ms`))
      const text = said === '' ? `${label}: ${signal ?? `exit status ${status}`}` : `${label}: ${said}`
      if (status === 0) resolve({ status: 'passing', output: text })
      else if (status === 1 && label === command) resolve({ status: 'warning', output: text })
      else resolve(critical(text))
    })
  })
}

function critical(output: string): Finding {
  return { status: 'critical', output }
}
