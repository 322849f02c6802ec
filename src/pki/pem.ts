// PEM: one block, or the blocks of a bundle.
import { MeshError } from '../errors.ts'

export function pem(label: string, der: Buffer): string {
  const lines = der.toString('base64').match(/.{1,64}/g) ?? []
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`
}

/** DER of the one PEM block of this label; MSH0402 where there is none, or something else beside it. */
export function unpem(text: string, label: string, maxBytes: number): Buffer {
  if (text.length > maxBytes * 2) throw new MeshError('MSH0402', `too large for a ${label.toLowerCase()}`)
  const match = new RegExp(
    `^\\s*-----BEGIN ${label}-----\\r?\\n([A-Za-z0-9+/=\\r\\n]+)-----END ${label}-----\\s*$`,
  ).exec(text)
  if (match?.[1] === undefined) throw new MeshError('MSH0402', `not one ${label.toLowerCase()} in PEM form`)
  return Buffer.from(match[1], 'base64')
}

/** Every certificate block of a bundle, in order. Text between the blocks is ignored, as OpenSSL does. */
export function certificateBlocks(text: string): string[] {
  return text.match(/-----BEGIN CERTIFICATE-----\r?\n[A-Za-z0-9+/=\r\n]+-----END CERTIFICATE-----/g) ?? []
}
