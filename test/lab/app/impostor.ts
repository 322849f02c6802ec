// A server that claims to be another: TLS on 15008 with the certificate it is given. Counts what callers send it.
//   impostor.ts CHAIN KEY ROOTS COUNT-FILE
import { readFileSync, writeFileSync } from 'node:fs'
import { createSecureServer } from 'node:http2'

const [chain = '', key = '', roots = '', count = ''] = process.argv.slice(2)
let requests = 0
writeFileSync(count, '0\n')

createSecureServer(
  {
    cert: readFileSync(chain),
    key: readFileSync(key),
    ca: readFileSync(roots),
    requestCert: true,
    rejectUnauthorized: false,
    minVersion: 'TLSv1.3',
  },
  (_request, response) => {
    requests += 1
    writeFileSync(count, `${requests}\n`)
    response.end('impostor\n')
  },
)
  .on('sessionError', () => {})
  .on('tlsClientError', () => {})
  .listen(15008, '0.0.0.0')
