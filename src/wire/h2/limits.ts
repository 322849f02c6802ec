// What one session lets its peer do. All limits are explicit; the defaults suit a proxy's downstream side.

/** A token bucket: `burst` at once, then so many a second. */
export interface Rate {
  readonly burst: number
  readonly perSecond: number
}

/** Frames that cost the peer less than us. More of them than this ends the connection with ENHANCE_YOUR_CALM. */
export interface FloodLimits {
  /** Streams that the peer resets (rapid reset, CVE-2023-44487), beyond as many as ended in order. */
  readonly resets: Rate
  /** Streams that the peer makes us reset by breaking the rules (MadeYouReset, CVE-2025-8671), and malformed requests. */
  readonly faults: Rate
  /** Streams above our limit or behind our GOAWAY, which we refuse. */
  readonly refusals: Rate
  /** SETTINGS and their acknowledgements, GOAWAY. */
  readonly settings: Rate
  /** Beyond one for each frame with data either way and each stream: gRPC measures its bandwidth with pings. */
  readonly pings: Rate
  /** Beyond two for each such frame and each stream. */
  readonly priorities: Rate
  /** Beyond four for each frame with data either way and each stream. */
  readonly windowUpdates: Rate
  /** DATA, HEADERS and CONTINUATION frames without a byte in them that end nothing. */
  readonly empties: Rate
  /** Frames of types that we do not know, like PRIORITY_UPDATE; beyond one for each such frame and each stream. */
  readonly unknowns: Rate
}

export interface SessionLimits {
  /** Streams that the peer may have open at a time: SETTINGS_MAX_CONCURRENT_STREAMS. */
  readonly maxConcurrentStreams: number
  /** Fields of one head, cookie crumbs included. */
  readonly maxFields: number
  /** Decoded bytes of one head, 32 more for each field: SETTINGS_MAX_HEADER_LIST_SIZE. */
  readonly maxListBytes: number
  /** SETTINGS_HEADER_TABLE_SIZE, and the upper bound of the table for what we send. */
  readonly tableBytes: number
  /** Bytes of one stream that the peer may send ahead of its reader: SETTINGS_INITIAL_WINDOW_SIZE. */
  readonly streamWindow: number
  /** The same for all streams together. */
  readonly connectionWindow: number
  /**
   * Bytes received and not consumed above which the connection's window is no longer renewed. Below it a slow reader
   * stalls nobody else. A session holds at most this and one connection window.
   */
  readonly queueBytes: number
  /** Bytes of one stream that wait to be sent from which on `Session.data` says false. */
  readonly streamQueue: number
  /** Bytes of waiting output above which a peer that reads nothing may not make us answer. */
  readonly outputBytes: number
  readonly floods: FloodLimits
}

export const defaultLimits: SessionLimits = {
  maxConcurrentStreams: 1000,
  maxFields: 256,
  maxListBytes: 65536,
  tableBytes: 4096,
  streamWindow: 262144,
  connectionWindow: 16777216,
  queueBytes: 67108864,
  streamQueue: 65536,
  outputBytes: 4194304,
  floods: {
    resets: { burst: 1000, perSecond: 200 },
    faults: { burst: 200, perSecond: 20 },
    refusals: { burst: 1000, perSecond: 200 },
    settings: { burst: 100, perSecond: 10 },
    pings: { burst: 200, perSecond: 20 },
    priorities: { burst: 1000, perSecond: 100 },
    windowUpdates: { burst: 1000, perSecond: 200 },
    empties: { burst: 100, perSecond: 10 },
    unknowns: { burst: 1000, perSecond: 100 },
  },
}

/**
 * Between proxies of the mesh: a stream that is reset may be a TCP connection that its application reset, and must not cost
 * all others.
 */
export const linkLimits: SessionLimits = {
  ...defaultLimits,
  floods: { ...defaultLimits.floods, resets: { burst: 10_000, perSecond: 2000 } },
}
