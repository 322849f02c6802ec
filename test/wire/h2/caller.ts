// What h2specd runs for each of its cases: hands the URL to the test, whose client calls it, and ends with that call.
import net from 'node:net'

net
  .connect(Number(process.env['CALLER_PORT']), '127.0.0.1')
  .end(process.argv.at(-1) ?? '')
  .resume()
