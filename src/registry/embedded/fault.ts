// A request that cannot be served: the status and the plain text that Consul answers with.
export class Fault extends Error {
  readonly status: number

  constructor(status: number, message: string) {
    super(message)
    this.status = status
  }
}

export const denied = (): Fault => new Fault(403, 'Permission denied')
