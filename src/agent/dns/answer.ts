// What the mesh answers to one DNS query. Pure: a packet and a table in, a packet out; no sockets.
import { decode, encode, type Answer, type DecodedPacket, type Packet, type Question } from 'dns-packet'
import { defaultNamespace, domain } from '../../model/name.ts'

/** Virtual addresses never change while a service exists. */
const ttl = 30
/** How long "no such name" is believed: a new service must not wait for it. RFC 2308. */
const negativeTtl = 5
/** What fits every path without fragments (DNS flag day 2020). */
const udpPayload = 1232

/** `web.default.mesh` → its virtual address. Null: nothing is known yet, not even from disk. */
export type NameTable = ReadonlyMap<string, string> | null

export type Verdict =
  | { readonly kind: 'reply'; readonly packet: Buffer }
  /** Of the mesh, of which nothing is known yet; the packet is for who cannot wait. */
  | { readonly kind: 'early'; readonly packet: Buffer }
  /** Not of the mesh: to the resolver that was there before. */
  | { readonly kind: 'forward' }
  /** Not a query at all: no answer, lest two servers answer each other for ever. */
  | { readonly kind: 'ignore' }

export function answer(packet: Buffer, table: NameTable): Verdict {
  // The flags and counts are read by hand: dns-packet must not be handed what is no query.
  if (packet.length < 12 || (packet.readUInt8(2) & 0x80) !== 0) return { kind: 'ignore' }
  const id = packet.readUInt16BE(0)
  const opcode = (packet.readUInt8(2) >> 3) & 0x0f
  if (opcode !== 0) return { kind: 'reply', packet: bare(id, packet, 4) }
  if (packet.readUInt16BE(4) !== 1) return { kind: 'reply', packet: bare(id, packet, 1) }
  let query: DecodedPacket
  try {
    query = decode(packet)
  } catch {
    return { kind: 'reply', packet: bare(id, packet, 1) }
  }
  const question = query.questions?.[0]
  if (question === undefined) return { kind: 'reply', packet: bare(id, packet, 1) }
  const name = question.name.toLowerCase()
  const labels = name.split('.')
  const reversed = vipOfReverse(labels)
  if (labels.at(-1) !== domain && reversed === null) return { kind: 'forward' }
  // SERVFAIL, not NXDOMAIN: "no such name" would be believed and kept.
  if (table === null) return { kind: 'early', packet: respond(query, question, 2, [], false) }
  if (reversed !== null) return { kind: 'reply', packet: reverse(query, question, reversed, table) }
  return { kind: 'reply', packet: forward(query, question, labels, table) }
}

/** Nobody could be asked. */
export function servfail(packet: Buffer): Buffer {
  return bare(packet.readUInt16BE(0), packet, 2)
}

function forward(
  query: DecodedPacket,
  question: Question,
  labels: string[],
  table: ReadonlyMap<string, string>,
): Buffer {
  const key = labels.length === 2 ? `${labels[0]}.${defaultNamespace}.${domain}` : labels.join('.')
  const address = table.get(key)
  if (address !== undefined) {
    const asked = typeOf(question)
    const answers: Answer[] =
      asked === 'A' || asked === 'ANY' ? [{ type: 'A', name: question.name, ttl, data: address }] : []
    return respond(query, question, 0, answers, answers.length === 0)
  }
  // A name above existing names exists, without data (RFC 8020): the apex and each namespace.
  const inner =
    labels.length <= 2 && [...table.keys()].some((known) => known.endsWith(`.${labels.join('.')}`))
  return respond(query, question, inner || labels.length === 1 ? 0 : 3, [], true)
}

function reverse(
  query: DecodedPacket,
  question: Question,
  address: string,
  table: ReadonlyMap<string, string>,
): Buffer {
  const name = [...table].find(([, vip]) => vip === address)?.[0]
  if (name === undefined) return respond(query, question, 3, [], true)
  const asked = typeOf(question)
  const answers: Answer[] =
    asked === 'PTR' || asked === 'ANY' ? [{ type: 'PTR', name: question.name, ttl, data: name }] : []
  return respond(query, question, 0, answers, answers.length === 0)
}

/** The virtual address that `9.0.240.240.in-addr.arpa` asks for; null for every other name. */
function vipOfReverse(labels: readonly string[]): string | null {
  const [d, c, b, a, inAddr, arpa] = labels
  if (labels.length !== 6 || arpa !== 'arpa' || inAddr !== 'in-addr' || a !== '240' || b !== '240')
    return null
  return `${a}.${b}.${c}.${d}`
}

function respond(
  query: DecodedPacket,
  question: Question,
  rcode: number,
  answers: Answer[],
  negative: boolean,
): Buffer {
  const reply: Packet = {
    type: 'response',
    id: query.id ?? 0,
    // Authoritative, recursion available, the caller's "recursion desired"; the last four bits are the code.
    flags: 0x0400 | 0x0080 | (query.flag_rd ? 0x0100 : 0) | rcode,
    questions: [question],
    answers,
    authorities: negative ? [soa()] : [],
    additionals: query.additionals?.some((extra) => extra.type === 'OPT') === true ? [opt()] : [],
  }
  return encode(reply)
}

function soa(): Answer {
  return {
    type: 'SOA',
    name: domain,
    ttl: negativeTtl,
    data: {
      mname: `ns.${domain}`,
      rname: `hostmaster.${domain}`,
      serial: 1,
      refresh: 3600,
      retry: 600,
      expire: 86_400,
      minimum: negativeTtl,
    },
  }
}

function opt(): Answer {
  return {
    type: 'OPT',
    name: '.',
    udpPayloadSize: udpPayload,
    extendedRcode: 0,
    ednsVersion: 0,
    flags: 0,
    flag_do: false,
    options: [],
  } as unknown as Answer
}

/** A header and nothing else, for what could not be read. */
function bare(id: number, packet: Buffer, rcode: number): Buffer {
  const reply = Buffer.alloc(12)
  reply.writeUInt16BE(id, 0)
  // The caller's opcode and "recursion desired" come back.
  reply.writeUInt16BE(0x8080 | (packet.readUInt16BE(2) & 0x7900) | rcode, 2)
  return reply
}

/** dns-packet gives types that it does not know as UNKNOWN_n; its declared type is narrower. */
function typeOf(question: Question): string {
  return question.type as string
}
