// A packet capture on a lab's bridge: what anybody between the hosts could see.
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Lab } from './lab.ts'
import { must, sleep, until } from './shell.ts'

export interface Tap {
  /** Ends the capture. */
  stop(): Promise<Capture>
}

export interface Capture {
  readonly file: string
  /** TCP packets and bytes of payload to or from a port. */
  count(port: number): Promise<{ packets: number; bytes: number }>
  /** How often the text stands in what was captured. */
  find(text: string): number
}

/** Begins to capture whole packets; `filter` is tcpdump's. */
export async function tap(lab: Lab, name: string, filter: string): Promise<Tap> {
  const file = join(lab.dir, 'work', `${name}.pcap`)
  const child = spawn(
    'tcpdump',
    [
      '-i',
      lab.network.bridge,
      '-s',
      '0',
      '-U',
      '--immediate-mode',
      '-B',
      '65536',
      '-Z',
      'root',
      '-w',
      file,
      ...filter.split(' '),
    ],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  )
  let said = ''
  child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()))
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  await until('tcpdump to listen', () => {
    if (child.exitCode !== null) throw new Error(`tcpdump ended: ${said}`)
    return said.includes('listening on')
  })
  return {
    async stop() {
      await sleep(300) // what is on its way through the kernel's buffers
      child.kill('SIGINT')
      await ended
      const dropped = Number(/(\d+) packets dropped by kernel/.exec(said)?.[1] ?? 0)
      if (dropped > 0) throw new Error(`the capture lost ${dropped} packets`)
      const content = readFileSync(file, 'latin1')
      return {
        file,
        async count(port) {
          const lines = (await must('tcpdump', ['-r', file, '-nn', '-q', 'tcp', 'port', String(port)]))
            .trim()
            .split('\n')
          const sizes = lines
            .map((line) => Number(/tcp (\d+)$/.exec(line)?.[1] ?? -1))
            .filter((size) => size >= 0)
          return { packets: sizes.length, bytes: sizes.reduce((sum, size) => sum + size, 0) }
        },
        find: (text) => content.split(text).length - 1,
      }
    },
  }
}
