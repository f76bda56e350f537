import { Client, credentials, Metadata } from '@grpc/grpc-js'

import { type Connection, readRoots, readToken } from '../config.js'
import { DEFAULT_LIMITS } from './wire.js'

/** A dead peer is noticed after 20 s + 10 s even where the server's ttl is long. */
const KEEPALIVE_MS = 20_000
const KEEPALIVE_TIMEOUT_MS = 10_000

/** One HTTP/2 connection: the session and its blobs share it. */
export interface Channel {
  readonly client: Client
  /** The credential as the file has it now. */
  metadata(): Promise<Metadata>
}

/**
 * Makes a connection's client; nothing is dialled yet. Each session gets its
 * own, so that a failed dial leaves no back-off state behind: the SDK alone
 * decides when to dial again.
 *
 * @throws ConfigError when the roots file cannot be read.
 */
export async function openChannel(connection: Connection): Promise<Channel> {
  const { url } = connection
  const secure = url.protocol === 'https:'
  const client = new Client(
    `dns:${url.hostname}:${url.port || (secure ? 443 : 80)}`,
    secure ? credentials.createSsl((await readRoots(connection.caFile)) ?? null) : credentials.createInsecure(),
    {
      'grpc.keepalive_time_ms': KEEPALIVE_MS,
      'grpc.keepalive_timeout_ms': KEEPALIVE_TIMEOUT_MS,
      'grpc.max_receive_message_length': DEFAULT_LIMITS.maxFrameBytes * 2,
      'grpc.use_local_subchannel_pool': 1,
      'grpc.enable_retries': 0,
      // A proxy for the internet cannot reach this machine's own loopback.
      'grpc.enable_http_proxy': isLoopback(url.hostname) ? 0 : 1,
    },
  )
  return { client, metadata: () => bearer(connection.tokenFile) }
}

async function bearer(tokenFile: string | undefined): Promise<Metadata> {
  const metadata = new Metadata()
  const token = await readToken(tokenFile)
  if (token !== undefined) {
    metadata.set('authorization', `Bearer ${token}`)
  }
  return metadata
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '[::1]' || host.startsWith('127.')
}
