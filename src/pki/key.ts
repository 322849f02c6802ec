// Private keys: ECDSA P-256, PKCS#8 PEM, 0600. The only file that turns a private key into bytes.
import type { KeyObject } from 'node:crypto'
import {
  createCipheriv,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  pbkdf2,
  randomBytes,
} from 'node:crypto'
import { open, readFile, rename, rm } from 'node:fs/promises'
import { promisify } from 'node:util'
import { MeshError } from '../errors.ts'
import * as asn1 from './asn1.ts'
import { pem } from './pem.ts'

/** OpenSSL's own default is 2,048 rounds; this is OWASP's figure for PBKDF2-HMAC-SHA256. */
const passphraseRounds = 600_000

const derive = promisify(pbkdf2)

export function makeKey(): KeyObject {
  return generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey
}

export function publicOf(key: KeyObject): KeyObject {
  return key.type === 'public' ? key : createPublicKey(key)
}

/** DER of the SubjectPublicKeyInfo; two keys are the same when these bytes are. */
export function publicBytes(key: KeyObject): Buffer {
  return publicOf(key).export({ type: 'spki', format: 'der' })
}

export function isP256(key: KeyObject): boolean {
  return key.asymmetricKeyType === 'ec' && key.asymmetricKeyDetails?.namedCurve === 'prime256v1'
}

/** Unencrypted PEM. For the TLS library and 0600 files only. */
export function keyPem(key: KeyObject): string {
  return key.export({ type: 'pkcs8', format: 'pem' }).toString()
}

/** PKCS#8 encrypted with PBES2: PBKDF2-HMAC-SHA256 and AES-256-CBC (RFC 8018), as `openssl pkcs8` reads it. */
export async function encryptedKeyPem(key: KeyObject, passphrase: string): Promise<string> {
  const salt = randomBytes(16)
  const iv = randomBytes(16)
  const secret = await derive(passphrase, salt, passphraseRounds, 32, 'sha256')
  const cipher = createCipheriv('aes-256-cbc', secret, iv)
  const plain = key.export({ type: 'pkcs8', format: 'der' })
  const encrypted = Buffer.concat([cipher.update(plain), cipher.final()])
  const rounds = Buffer.alloc(4)
  rounds.writeUInt32BE(passphraseRounds)
  const derivation = asn1.sequence(
    asn1.oid('1.2.840.113549.1.5.12'),
    asn1.sequence(
      asn1.octets(salt),
      asn1.integer(rounds),
      asn1.integer(32),
      asn1.sequence(asn1.oid('1.2.840.113549.2.9'), asn1.empty()),
    ),
  )
  const scheme = asn1.sequence(asn1.oid('2.16.840.1.101.3.4.1.42'), asn1.octets(iv))
  const algorithm = asn1.sequence(asn1.oid('1.2.840.113549.1.5.13'), asn1.sequence(derivation, scheme))
  return pem('ENCRYPTED PRIVATE KEY', asn1.encode(asn1.sequence(algorithm, asn1.octets(encrypted))))
}

/** Throws MSH0416: not a key, another kind of key, or a wrong or missing passphrase. */
export function readKey(text: string, passphrase?: string): KeyObject {
  const encrypted = text.includes('BEGIN ENCRYPTED PRIVATE KEY')
  if (encrypted && passphrase === undefined) {
    throw new MeshError('MSH0416', 'the private key is encrypted and no passphrase was given')
  }
  let key: KeyObject
  try {
    key = createPrivateKey(passphrase === undefined ? text : { key: text, format: 'pem', passphrase })
  } catch {
    // The library's own message is dropped: it may quote the input.
    throw new MeshError(
      'MSH0416',
      encrypted ? 'wrong passphrase for the private key' : 'not a private key in PEM form',
    )
  }
  if (!isP256(key)) throw new MeshError('MSH0416', 'the private key is not ECDSA P-256')
  return key
}

export async function loadKey(path: string, passphrase?: string): Promise<KeyObject> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    throw new MeshError('MSH0416', `cannot read the private key ${path}`, { cause: error })
  }
  return readKey(text, passphrase)
}

/** Writes the key 0600, encrypted when there is a passphrase. */
export async function storeKey(path: string, key: KeyObject, passphrase?: string): Promise<void> {
  await storeFile(
    path,
    passphrase === undefined ? keyPem(key) : await encryptedKeyPem(key, passphrase),
    0o600,
  )
}

/** Atomic: a new file beside it, flushed, then renamed. A reader sees the old content or the new, never half. */
export async function storeFile(path: string, content: string, mode: number): Promise<void> {
  const temporary = `${path}.${randomBytes(6).toString('hex')}.new`
  try {
    const file = await open(temporary, 'wx', mode)
    try {
      await file.chmod(mode)
      await file.writeFile(content)
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(temporary, path)
  } catch (error) {
    await rm(temporary, { force: true })
    throw error
  }
}
