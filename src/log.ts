// JSON lines on standard error through pino: time, level, process, message and named fields.
import pino from 'pino'

type Level = 'debug' | 'info' | 'warn' | 'error' | 'fatal'

interface Write {
  (fields: object, message: string): void
  (message: string): void
}

export type Log = Readonly<Record<Level, Write>>

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
