#!/usr/bin/env node
// The only plain JavaScript: an older Node may start it. It hands over to the packaged runtime and the built command.
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { constants } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const cli = join(root, 'dist', 'cli.js')
const runtime = join(root, 'node_modules', `node-linux-${process.arch}`, 'bin', 'node')

if (!existsSync(cli)) {
  fail('meshctl is not built yet; run: npm run build')
} else if (existsSync(runtime) && process.execPath !== runtime) {
  const child = spawn(runtime, ['--disable-warning=ExperimentalWarning', cli, ...process.argv.slice(2)], {
    stdio: 'inherit',
  })
  // Signals of the terminal reach the child by themselves; those sent to this process are passed on.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal))
  child.on('error', (error) => fail(`could not start ${runtime}: ${error.message}`))
  child.on('exit', (code, signal) =>
    process.exit(code ?? 128 + (signal === null ? 0 : constants.signals[signal])),
  )
} else if (Number(process.versions.node.split('.')[0]) >= 26) {
  process.argv[1] = cli
  await import(pathToFileURL(cli).href)
} else {
  fail(`the runtime is missing (${runtime}); run: npm install`)
}

function fail(message) {
  process.stderr.write(`meshctl: ${message}\n`)
  process.exit(1)
}
