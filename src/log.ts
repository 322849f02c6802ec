// JSON lines on standard error through pino: time, level, process, message and named fields.
import pino from 'pino'

export type Log = pino.Logger

/** A logger for one process. Level from MESHCTL_LOG (trace, debug, info, warn, error, silent), default info. */
export function makeLog(name: string, level: string = process.env['MESHCTL_LOG'] ?? 'info'): Log {
  return pino(
    {
      name,
      level,
      base: { name },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: ['*.key', '*.token', '*.grant', '*.passphrase', '*.password'],
    },
    pino.destination({ dest: 2, sync: true }),
  )
}
