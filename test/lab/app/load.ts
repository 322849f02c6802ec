// Load for labs: N workers, each one request after the other on a kept connection, for some seconds. Prints a LoadResult.
//   load.ts URL SECONDS WORKERS
import { Agent, request } from 'node:http'

const [url = '', seconds = '5', workers = '4'] = process.argv.slice(2)
const end = Date.now() + Number(seconds) * 1000
const agent = new Agent({ keepAlive: true, maxSockets: Number(workers) })
const failed: { why: string; began: number; ended: number }[] = []
const versions: Record<string, number> = {}
const times: number[] = []
let sent = 0
let ok = 0

function once(): Promise<void> {
  return new Promise((resolve) => {
    const began = Date.now()
    sent += 1
    const fail = (why: string): void => {
      failed.push({ why, began, ended: Date.now() })
      resolve()
    }
    const asked = request(url, { agent, timeout: 20_000 }, (response) => {
      let body = ''
      response.setEncoding('utf8')
      response.on('data', (piece: string) => (body += piece))
      response.on('error', (error) => fail(error.message))
      response.on('end', () => {
        if (response.statusCode !== 200) return fail(`${response.statusCode} ${body.slice(0, 200)}`)
        ok += 1
        times.push(Date.now() - began)
        const version = String(response.headers['x-version'])
        versions[version] = (versions[version] ?? 0) + 1
        resolve()
      })
    })
    asked.on('timeout', () => asked.destroy(new Error('no answer in 20 s')))
    asked.on('error', (error) => fail(error.message))
    asked.end()
  })
}

async function worker(): Promise<void> {
  while (Date.now() < end) await once()
}

await Promise.all(Array.from({ length: Number(workers) }, worker))
agent.destroy()
times.sort((a, b) => a - b)
console.log(
  JSON.stringify({
    sent,
    ok,
    failed,
    versions,
    p99_ms: times[Math.floor(times.length * 0.99)] ?? 0,
    max_ms: times.at(-1) ?? 0,
  }),
)
