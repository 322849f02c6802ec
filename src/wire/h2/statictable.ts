// The static table of RFC 7541, appendix A.
import { makeField } from './field.ts'
import type { Field } from './field.ts'
import { idLimit, nameFrom } from './fieldname.ts'

const entries: readonly string[] = [
  ':authority',
  ':method GET',
  ':method POST',
  ':path /',
  ':path /index.html',
  ':scheme http',
  ':scheme https',
  ':status 200',
  ':status 204',
  ':status 206',
  ':status 304',
  ':status 400',
  ':status 404',
  ':status 500',
  'accept-charset',
  'accept-encoding gzip, deflate',
  ...(
    'accept-language accept-ranges accept access-control-allow-origin age allow authorization cache-control ' +
    'content-disposition content-encoding content-language content-length content-location content-range ' +
    'content-type cookie date etag expect expires from host if-match if-modified-since if-none-match if-range ' +
    'if-unmodified-since last-modified link location max-forwards proxy-authenticate proxy-authorization range ' +
    'referer refresh retry-after server set-cookie strict-transport-security transfer-encoding user-agent vary via ' +
    'www-authenticate'
  ).split(' '),
]

/** By index, 1 to 61; the one at 0 is never referred to. */
export const staticFields: readonly Field[] = ['', ...entries].map((entry) => {
  const space = entry.indexOf(' ')
  const name = space < 0 ? entry : entry.slice(0, space)
  const value = Buffer.from(space < 0 ? '' : entry.slice(space + 1), 'latin1')
  return makeField(nameFrom(name), value, 0, value.length, false)
})

/** The first index of the dynamic table. */
export const dynamicFirst = staticFields.length

/** Id of a name → the first static index with it, 0: none. */
export const staticName = new Uint8Array(idLimit)
for (let index = staticFields.length - 1; index > 0; index--) staticName[staticFields[index]!.id] = index

/** The static index of exactly the field with this name and the value in buf[start, end), 0: none. Not for pseudo fields. */
export function staticIndexOf(id: number, buf: Buffer, start: number, end: number): number {
  const index = staticName[id]!
  if (index === 0) return 0
  const value = staticFields[index]!.value
  if (value.length !== end - start) return 0
  for (let i = 0; i < value.length; i++) if (value.charCodeAt(i) !== buf[start + i]) return 0
  return index
}

/** The static index of exactly this field, 0: none. `id` is the name's. */
export function staticIndex(id: number, value: string): number {
  let index = staticName[id]!
  if (index === 0) return 0
  for (; index < dynamicFirst && staticFields[index]!.id === id; index++) {
    if (staticFields[index]!.value === value) return index
  }
  return 0
}
