// Only this module of node-forge is loaded: the whole package would pull RSA, PRNG and TLS code into every process.
declare module 'node-forge/lib/asn1.js' {
  import type forge from 'node-forge'
  const asn1: typeof forge.asn1
  export default asn1
}
