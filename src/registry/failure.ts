// What went wrong at the registry, as an error that a user can act on. Errors of the HTTP client hold the request and
// with it the token: nothing of them but their text goes on.
import { MeshError, reason } from '../errors.ts'

interface Response {
  readonly statusCode?: number
  readonly body?: unknown
}

/** The response that an error of the `consul` package carries, if the server answered at all. */
export function responseOf(error: unknown): Response | null {
  if (typeof error !== 'object' || error === null || !('response' in error)) return null
  const { response } = error
  return typeof response === 'object' && response !== null ? response : null
}

/** `what` says what was asked, `where` the registry's URL. */
export function failure(error: unknown, what: string, where: string): MeshError {
  if (error instanceof MeshError) return error
  const response = responseOf(error)
  const status = response?.statusCode ?? 0
  const why = plain(reason(error))
  if (/decode \(/.test(why)) {
    return new MeshError('MSH0303', `${what}: what ${where} answered cannot be understood (${why})`)
  }
  // An error in spite of a good status: the answer did not arrive whole.
  if (status < 300) return unreachable(what, where, why)
  const body = plain(said(response))
  if (status === 401 || status === 403 || /permission denied|acl not found/i.test(body)) {
    return new MeshError('MSH0302', `${what}: the registry at ${where} denied it (${body || status})`, {
      hint: 'check the token: a joined host gets a new one by `meshctl join` again',
    })
  }
  const away = status === 429 || (status >= 502 && status <= 504)
  if (
    away ||
    /no cluster leader|leadership lost|failed to get conn|rpc error: .*(refused|timeout)/i.test(body)
  ) {
    return unreachable(what, where, body || `status ${status}`)
  }
  return new MeshError(
    'MSH0303',
    `${what}: the registry at ${where} refused it (${body || `status ${status}`})`,
  )
}

export function unreachable(what: string, where: string, why: string): MeshError {
  return new MeshError('MSH0301', `${what}: the registry at ${where} cannot be reached (${why})`, {
    hint: 'look at `systemctl status meshctl-control` on the control host, or at your Consul cluster',
  })
}

function said(response: Response | null): string {
  const body = response?.body
  if (typeof body === 'string') return body
  if (Buffer.isBuffer(body)) return body.toString('utf8')
  return body === undefined || body === null ? '' : JSON.stringify(body)
}

/** One short line without control characters: the text comes from a peer. */
function plain(text: string): string {
  return text
    .replaceAll(/[^\x20-\x7e\u00a0-\uffff]+/g, ' ')
    .trim()
    .slice(0, 300)
}
