// A server that claims to be another: TLS on 15008 with the certificate it is given. Counts what callers send it.
//   impostor.ts CHAIN KEY ROOTS COUNT-FILE
import { readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:tls'

const [chain = '', key = '', roots = '', count = ''] = process.argv.slice(2)
let requests = 0
writeFileSync(count, '0\n')

createServer(
  {
    cert: readFileSync(chain),
    key: readFileSync(key),
    ca: readFileSync(roots),
    requestCert: true,
    rejectUnauthorized: false,
    minVersion: 'TLSv1.3',
    ALPNProtocols: ['meshctl-http/1.1', 'meshctl-tcp'],
  },
  (socket) => {
    socket.on('error', () => {})
    socket.on('data', () => {
      requests += 1
      writeFileSync(count, `${requests}\n`)
      socket.write('HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nimpostor\n')
    })
  },
)
  .on('tlsClientError', () => {})
  .listen(15008, '0.0.0.0')
