import assert from 'node:assert/strict'
import { test } from 'node:test'
import { commonProtocol, type Protocol } from '../../src/model/protocol.ts'

test('instances that disagree have what is true of all of them, or are sniffed', () => {
  const table: [Protocol[], Protocol][] = [
    [[], 'auto'],
    [['grpc'], 'grpc'],
    [['tls', 'tls'], 'tls'],
    [['http', 'http2', 'grpc'], 'http'],
    [['tls', 'tcp'], 'tcp'],
    [['http', 'tcp'], 'auto'],
    [['http', 'auto'], 'auto'],
  ]
  for (const [said, common] of table) assert.equal(commonProtocol(said), common, said.join())
})
