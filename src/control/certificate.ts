// Control's own certificate, made from the issuing CA at each start and again at half of its life. Its key is only in
// memory: nothing is gained by keeping it.
import type { Clock, Timer } from '../clock.ts'
import { controlSpiffe } from '../api/signer.ts'
import type { Log } from '../log.ts'
import { makeLeaf } from '../pki/issue.ts'
import { keyPem, makeKey, publicOf } from '../pki/key.ts'
import { readCertificate } from '../pki/cert.ts'
import type { ControlSetup } from './config.ts'

/** Chain and key, PEM, as node:tls wants them. */
export interface ServerPair {
  readonly cert: string
  readonly key: string
}

const loopback = ['localhost', '127.0.0.1', '::1']
/** setTimeout's bound is 24 days; leafs may live longer. */
const longestWaitMs = 12 * 3_600_000
/** Share of the issuing CA's life that is left when the log begins to say so. */
const warnBelow = 0.2
/** Near the end of the issuing CA halves of lives become short. */
const shortestWaitMs = 1000
/** After a failed renewal. */
const retryMs = 60_000

export class ServerCertificate {
  readonly #setup: ControlSetup
  readonly #clock: Clock
  readonly #log: Log
  readonly #listeners: ((pair: ServerPair) => void)[] = []
  #pair: ServerPair
  #halfLife = 0
  #timer: Timer | null = null

  constructor(setup: ControlSetup, clock: Clock, log: Log) {
    this.#setup = setup
    this.#clock = clock
    this.#log = log
    this.#pair = this.#make()
    this.#wait(this.#halfLife - clock.now())
  }

  current(): ServerPair {
    return this.#pair
  }

  /** Called with each new pair; new connections use it, old ones go on. */
  onRenewal(listener: (pair: ServerPair) => void): void {
    this.#listeners.push(listener)
  }

  close(): void {
    this.#timer?.cancel()
  }

  #make(): ServerPair {
    const { config, issuer } = this.#setup
    const key = makeKey()
    const now = this.#clock.now()
    const leaf = makeLeaf({
      issuer,
      publicKey: publicOf(key),
      spiffe: controlSpiffe(config.trustDomain),
      now,
      lifeSeconds: config.leafSeconds,
      names: [...new Set([...config.names, ...loopback])],
    })
    const { notAfter, serial } = readCertificate(leaf)
    this.#halfLife = now + (notAfter - now) / 2
    const issuing = issuer.certificate
    if (issuing.notAfter - now < (issuing.notAfter - issuing.notBefore) * warnBelow) {
      const ends = new Date(issuing.notAfter).toISOString()
      this.#log.warn({ event: 'issuing', ends }, 'the issuing CA ends soon; no certificate outlives it')
    }
    this.#log.info(
      {
        event: 'issued',
        spiffe: controlSpiffe(config.trustDomain),
        serial,
        until: new Date(notAfter).toISOString(),
        cause: 'control',
      },
      'certificate issued',
    )
    return { cert: leaf + issuer.certificate.pem, key: keyPem(key) }
  }

  #wait(ms: number): void {
    this.#timer = this.#clock.after(Math.min(Math.max(ms, shortestWaitMs), longestWaitMs), () =>
      this.#renew(),
    )
  }

  #renew(): void {
    if (this.#clock.now() < this.#halfLife) return this.#wait(this.#halfLife - this.#clock.now())
    try {
      this.#pair = this.#make()
      for (const listener of this.#listeners) listener(this.#pair)
    } catch (error) {
      this.#log.error(
        { event: 'renewal', error: String(error) },
        'control could not renew its own certificate',
      )
      return this.#wait(retryMs)
    }
    return this.#wait(this.#halfLife - this.#clock.now())
  }
}
