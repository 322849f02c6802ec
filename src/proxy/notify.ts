// Word to systemd about its service, as sd_notify(3) defines it: one datagram to the socket that it names. Node has no
// unix datagrams; libc has, through node:ffi.
import { endianness } from 'node:os'
import { dlopen } from 'node:ffi'

const AF_UNIX = 1
const SOCK_DGRAM = 2
const SOCK_CLOEXEC = 0x80000
const MSG_NOSIGNAL = 0x4000
/** sun_path of struct sockaddr_un. */
const maxPath = 108

type Socket = (family: number, type: number, protocol: number) => number
type SendTo = (
  fd: number,
  data: Buffer,
  length: bigint,
  flags: number,
  to: Buffer,
  toLength: number,
) => bigint
type Close = (fd: number) => number

/** `state`: `MAINPID=7`, say. False: nobody wants to know, or the word did not get through. */
export function notify(state: string, path: string | undefined = process.env['NOTIFY_SOCKET']): boolean {
  if (path === undefined || !/^[/@]/.test(path)) return false
  const address = socketAddress(path)
  if (address === null) return false
  const { functions } = dlopen(null, {
    socket: { arguments: ['i32', 'i32', 'i32'], return: 'i32' },
    sendto: { arguments: ['i32', 'buffer', 'u64', 'i32', 'buffer', 'u32'], return: 'i64' },
    close: { arguments: ['i32'], return: 'i32' },
  })
  const fd = (functions['socket'] as unknown as Socket)(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)
  if (fd < 0) return false
  const data = Buffer.from(state)
  const send = functions['sendto'] as unknown as SendTo
  const sent = Number(send(fd, data, BigInt(data.length), MSG_NOSIGNAL, address, address.length))
  ;(functions['close'] as unknown as Close)(fd)
  return sent === data.length
}

/** struct sockaddr_un; a path that begins with @ is an abstract name. Null: too long. */
function socketAddress(path: string): Buffer | null {
  const name = Buffer.from(path)
  if (name.length >= maxPath) return null
  if (path.startsWith('@')) name[0] = 0
  const address = Buffer.alloc(2 + name.length + (path.startsWith('@') ? 0 : 1))
  if (endianness() === 'LE') address.writeUInt16LE(AF_UNIX)
  else address.writeUInt16BE(AF_UNIX)
  name.copy(address, 2)
  return address
}
