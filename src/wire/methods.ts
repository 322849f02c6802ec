// The methods that Node's own parser (llhttp) knows; any other is refused with 501, so that no peer behind us meets one
// that its parser would refuse. Registered at https://www.iana.org/assignments/http-methods.
import { SP } from './bytes.ts'

const methods: readonly string[] = (
  'GET POST PUT HEAD DELETE OPTIONS PATCH CONNECT TRACE COPY LOCK MKCOL MOVE PROPFIND PROPPATCH SEARCH UNLOCK BIND ' +
  'REBIND UNBIND ACL REPORT MKACTIVITY CHECKOUT MERGE M-SEARCH NOTIFY SUBSCRIBE UNSUBSCRIBE PURGE MKCALENDAR LINK ' +
  'UNLINK SOURCE QUERY'
).split(' ')

export const maxMethod = Math.max(...methods.map((method) => method.length))

/** The method at buf[start, end) that a space follows, as an interned string; undefined: not one of ours. */
export function methodAt(buf: Buffer, start: number, end: number): string | undefined {
  // The commonest two decide on their four bytes.
  if (end - start === 3 && buf[start] === 71 && buf[start + 1] === 69 && buf[start + 2] === 84) return 'GET'
  for (let i = 1; i < methods.length; i++) {
    const method = methods[i]!
    if (method.length === end - start && startsWith(buf, start, end, method)) return method
  }
  return undefined
}

/**
 * Whether buf[start, end) begins with a method and a space: the place after the space; 0: it may still become one;
 * -1: it cannot.
 */
export function methodPrefix(buf: Buffer, start: number, end: number): number {
  let open = false
  for (const method of methods) {
    const length = Math.min(method.length, end - start)
    if (!startsWith(buf, start, start + length, method)) continue
    if (end - start <= method.length) open = true
    else if (buf[start + length] === SP) return start + length + 1
  }
  return open ? 0 : -1
}

function startsWith(buf: Buffer, start: number, end: number, word: string): boolean {
  for (let i = 0; start + i < end; i++) if (buf[start + i] !== word.charCodeAt(i)) return false
  return true
}
