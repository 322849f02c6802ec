// The peer's SETTINGS (RFC 9113 6.5.2, RFC 8441 3), and ours.
import { Code, Setting, maxPayload, maxWindow, readWord } from './frame.ts'
import type { SessionLimits } from './limits.ts'
import type { Session } from './session.ts'

/** What we announce. */
export function ourSettings(role: 'client' | 'server', limits: SessionLimits): [number, number][] {
  const pairs: [number, number][] = [
    [Setting.initialWindowSize, limits.streamWindow],
    [Setting.maxHeaderListSize, limits.maxListBytes],
  ]
  if (limits.tableBytes !== 4096) pairs.push([Setting.headerTableSize, limits.tableBytes])
  if (role === 'client') pairs.push([Setting.enablePush, 0])
  else
    pairs.push(
      [Setting.maxConcurrentStreams, limits.maxConcurrentStreams],
      [Setting.enableConnectProtocol, 1],
    )
  return pairs
}

/** Applies the settings in buf[start, end) in their order; false: one was wrong, and the session has failed. */
export function readSettings(session: Session, buf: Buffer, start: number, end: number): boolean {
  // Without a word there is no limit.
  if (!session.isSettled) session.maxConcurrentStreams = maxWindow
  for (let at = start; at < end; at += 6) {
    const identifier = (buf[at]! << 8) | buf[at + 1]!
    const value = readWord(buf, at + 2)
    switch (identifier) {
      case Setting.headerTableSize:
        session.encoder.setPeerTableBytes(value)
        break
      case Setting.enablePush:
        // Only a client decides about pushes.
        if (value > (session.role === 'server' ? 1 : 0)) return wrong(session, 'wrong ENABLE_PUSH')
        break
      case Setting.maxConcurrentStreams:
        session.maxConcurrentStreams = value
        break
      case Setting.initialWindowSize:
        if (value > maxWindow || !session.sender.setInitialWindow(value, session.streams)) {
          session.guard.fail(Code.flowControlError, 'initial window too large')
          return false
        }
        break
      case Setting.maxFrameSize:
        // We never send larger ones than everybody takes.
        if (value < maxPayload || value > 0xffffff) return wrong(session, 'wrong MAX_FRAME_SIZE')
        break
      case Setting.maxHeaderListSize:
        session.peerListBytes = value
        break
      case Setting.enableConnectProtocol:
        if (value > 1 || (value === 0 && session.canConnectProtocol)) {
          return wrong(session, 'wrong ENABLE_CONNECT_PROTOCOL')
        }
        session.canConnectProtocol = value === 1
        break
      default:
    }
  }
  return true
}

function wrong(session: Session, why: string): false {
  session.guard.fail(Code.protocolError, why)
  return false
}
