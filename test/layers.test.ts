// The layer table of docs/architecture.md: which folder of src/ may import which. Every edge has its reason.
import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { test } from 'node:test'

const leaves = ['errors', 'log', 'clock', 'version', 'paths']

const allowed: Record<string, Record<string, string>> = {
  net: {},
  pki: {},
  wire: {},
  model: { net: 'addresses in what users write' },
  snapshot: { net: 'addresses in what the proxy reads' },
  registry: { model: 'stores resources', net: 'addresses and backoff' },
  api: {
    model: 'join requests carry service declarations',
    pki: 'mTLS clients check SPIFFE ids',
    net: 'deadlines, backoff',
  },
  compile: { model: 'reads resources', snapshot: 'writes snapshots', net: 'addresses' },
  host: { model: 'installs what a host declares', net: 'addresses' },
  control: {
    api: 'serves it',
    registry: 'embedded registry, leases',
    model: 'entitlements name services',
    pki: 'signs',
    net: 'addresses',
  },
  agent: {
    api: 'asks the signer',
    registry: 'registers and watches',
    compile: 'compiles its own snapshot',
    model: 'service declarations',
    snapshot: 'pushes to the proxy',
    pki: 'owns keys',
    host: 'capture rules, units, resolver',
    net: 'addresses',
  },
  proxy: { snapshot: 'is configured by it', wire: 'codecs', pki: 'checks peers', net: 'sockets' },
  cli: {
    api: 'asks control',
    registry: 'reads and writes resources',
    compile: 'explains routes',
    model: 'parses and checks',
    snapshot: 'prints it',
    pki: 'makes the CA',
    host: 'installs on hosts',
    net: 'addresses',
  },
}

// What a file of the leaves may import: other leaves only.
const codecLeaves = ['errors']

interface Edge {
  file: string
  from: string
  to: string
}

const room = (path: string): string => {
  const first = path.split('/')[0] ?? ''
  return first.endsWith('.ts') ? first.slice(0, -3) : first
}

export function edges(root: string): Edge[] {
  const found: Edge[] = []
  for (const file of globSync('**/*.ts', { cwd: root })) {
    const text = readFileSync(join(root, file), 'utf8')
    for (const match of text.matchAll(/(?:from|import)\s*\(?\s*'(\.{1,2}\/[^']+)'/g)) {
      const target = relative('/r', join('/r', dirname(file), match[1] ?? ''))
      found.push({ file, from: room(file), to: room(target) })
    }
  }
  return found
}

export function violations(found: Edge[]): string[] {
  const bad: string[] = []
  for (const { file, from, to } of found) {
    if (from === to) continue
    const toLeaf = leaves.includes(to)
    if (leaves.includes(from)) {
      if (!toLeaf) bad.push(`${file}: the leaf ${from} imports ${to}`)
    } else if (from === 'wire' && toLeaf) {
      if (!codecLeaves.includes(to))
        bad.push(`${file}: wire imports the leaf ${to}; codecs may use errors only`)
    } else if (!toLeaf && allowed[from]?.[to] === undefined) {
      bad.push(`${file}: ${from} must not import ${to}`)
    }
  }
  return bad
}

test('imports go downwards only', () => {
  const found = edges('src')
  assert.ok(found.length > 20, 'the layer test saw too few imports to mean anything')
  assert.deepEqual(violations(found), [])
})

test('the layer test catches a planted violation', () => {
  assert.deepEqual(violations([{ file: 'proxy/x.ts', from: 'proxy', to: 'model' }]), [
    'proxy/x.ts: proxy must not import model',
  ])
  assert.equal(violations([{ file: 'wire/x.ts', from: 'wire', to: 'log' }]).length, 1)
  assert.equal(violations([{ file: 'errors.ts', from: 'errors', to: 'net' }]).length, 1)
})

test('no room is a drawer: util, helper, common and index files are refused', () => {
  const drawers = globSync('**/*.ts', { cwd: 'src' }).filter((file) =>
    /(^|\/)(util|utils|helper|helpers|common|index)(\/|\.ts$)/.test(file),
  )
  assert.deepEqual(drawers, [])
})
