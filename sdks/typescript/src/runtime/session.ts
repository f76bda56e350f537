import type { MessageInitShape } from '@bufbuild/protobuf'
import { type ClientDuplexStream, type Metadata, type StatusObject, status } from '@grpc/grpc-js'

import {
  type AgentDown,
  type AgentUp,
  type Goaway,
  Goaway_Reason,
  type HelloSchema,
  type Welcome,
} from '../gen/parallax/v1/agents_pb.js'
import type { Channel } from './channel.js'
import { type DownFrame, limitsOf, SESSION, type SessionLimits, type UpFrame, upFrame } from './wire.js'

/** How long the server may take from the dial to its Welcome. */
const HANDSHAKE_TIMEOUT_MS = 10_000
/** How long a stream that both sides are done with may stay open. */
const CLOSE_TIMEOUT_MS = 2_000
/** The lease where a server names none. */
const DEFAULT_TTL_MS = 30_000

/** How a session ended. */
export type SessionEnd =
  | { readonly kind: 'goaway'; readonly reason: Goaway_Reason; readonly message: string; readonly reconnectAfterMs: number }
  | {
      readonly kind: 'status'
      readonly code: status
      readonly message: string
      readonly welcomed: boolean
      readonly retryAfterMs: number
    }
  /** The agent closed it. */
  | { readonly kind: 'closed' }

/** Who a session reports to. Calls come in the order of the frames. */
export interface SessionListener {
  welcomed(session: Session, welcome: Welcome): void
  frame(frame: DownFrame): void
  /** The replica is to go; the stream still works for as long as the server keeps it. */
  removed(): void
  /** The connection takes more again after {@link Session.congested}. */
  writable(): void
  /** Tasks that are running now, for the heartbeat. */
  inflight(): number
}

/** One `AgentService.Session` stream, from Hello to its end. */
export class Session {
  readonly channel: Channel
  /** Resolves, never rejects, when the stream is over. */
  readonly ended: Promise<SessionEnd>
  readonly #listener: SessionListener
  readonly #call: ClientDuplexStream<AgentUp, AgentDown>
  readonly #settle: (end: SessionEnd) => void
  #welcome: Welcome | undefined
  #end: SessionEnd | undefined
  #congested = false
  #limits: SessionLimits = limitsOf(undefined)
  #watchdog: NodeJS.Timeout
  #heartbeat: NodeJS.Timeout | undefined

  constructor(
    channel: Channel,
    metadata: Metadata,
    hello: MessageInitShape<typeof HelloSchema>,
    listener: SessionListener,
  ) {
    this.channel = channel
    this.#listener = listener
    let settle: (end: SessionEnd) => void = () => undefined
    this.ended = new Promise((resolve) => (settle = resolve))
    this.#settle = settle
    this.#watchdog = setTimeout(() => this.#silent(HANDSHAKE_TIMEOUT_MS), HANDSHAKE_TIMEOUT_MS)
    const { path, requestSerialize, responseDeserialize } = SESSION
    this.#call = channel.client.makeBidiStreamRequest(path, requestSerialize, responseDeserialize, metadata)
    this.#call.on('data', (message: AgentDown) => this.#receive(message.frame))
    this.#call.on('status', (outcome: StatusObject) => this.#finished(outcome))
    // The status event tells the same and always comes.
    this.#call.on('error', () => undefined)
    this.#call.on('drain', () => this.#writable())
    this.send({ case: 'hello', value: hello })
  }

  /** Whether the server has let the agent in. */
  get open(): boolean {
    return this.#welcome !== undefined && this.#end === undefined
  }

  get limits(): SessionLimits {
    return this.#limits
  }

  /** True while the connection has more to send than it takes: hold back what can be left out. */
  get congested(): boolean {
    return this.#congested
  }

  /** Hands a frame to the connection; false when the stream is over. */
  send(frame: UpFrame): boolean {
    if (this.#end !== undefined) {
      return false
    }
    this.#congested = !this.#call.write(upFrame(frame))
    return true
  }

  /** Says goodbye and waits a little for what the server still sends. */
  close(): void {
    this.#endAs({ kind: 'closed' })
  }

  #receive(frame: DownFrame): void {
    if (this.#welcome !== undefined) {
      this.#watchdog.refresh()
    }
    switch (frame.case) {
      case 'welcome':
        return this.#welcomed(frame.value)
      case 'ping':
        this.send({ case: 'pong', value: { nonce: frame.value.nonce } })
        return
      case 'goaway':
        return this.#goaway(frame.value)
      default:
        if (this.#welcome === undefined) {
          return this.#broken('the first frame was not Welcome')
        }
        return this.#listener.frame(frame)
    }
  }

  #welcomed(welcome: Welcome): void {
    if (this.#welcome !== undefined) {
      return this.#broken('a second Welcome came')
    }
    this.#welcome = welcome
    this.#limits = limitsOf(welcome.limits)
    const ttl = Number(welcome.ttlMs) || DEFAULT_TTL_MS
    clearTimeout(this.#watchdog)
    this.#watchdog = setTimeout(() => this.#silent(2 * ttl), 2 * ttl)
    this.#heartbeat = setInterval(() => this.#beat(welcome.leaseEpoch), Math.max(1, ttl / 3))
    this.#listener.welcomed(this, welcome)
  }

  #beat(leaseEpoch: bigint): void {
    this.send({ case: 'heartbeat', value: { leaseEpoch, inflight: this.#listener.inflight() } })
  }

  #goaway(goaway: Goaway): void {
    if (goaway.reason === Goaway_Reason.REMOVED && this.#welcome !== undefined) {
      return this.#listener.removed()
    }
    this.#endAs({
      kind: 'goaway',
      reason: goaway.reason,
      message: goaway.message,
      reconnectAfterMs: Number(goaway.reconnectAfterMs),
    })
  }

  #silent(afterMs: number): void {
    this.#broken(`no frame came for ${Math.round(afterMs)} ms`)
  }

  /** The stream is of no use any more: give it up without ceremony. */
  #broken(message: string): void {
    this.#conclude({
      kind: 'status',
      code: status.UNAVAILABLE,
      message,
      welcomed: this.#welcome !== undefined,
      retryAfterMs: 0,
    })
    this.#call.cancel()
    this.channel.client.close()
  }

  #endAs(end: SessionEnd): void {
    if (this.#end !== undefined) {
      return
    }
    this.#conclude(end)
    this.#call.end()
    // Frames that are still on their way out get this long.
    const timer = setTimeout(() => this.#call.cancel(), CLOSE_TIMEOUT_MS)
    this.#call.on('status', () => clearTimeout(timer))
    this.channel.client.close()
  }

  #finished(outcome: StatusObject): void {
    this.#conclude({
      kind: 'status',
      code: outcome.code,
      message: outcome.details,
      welcomed: this.#welcome !== undefined,
      retryAfterMs: retryAfter(outcome.metadata),
    })
    this.channel.client.close()
  }

  #conclude(end: SessionEnd): void {
    if (this.#end === undefined) {
      this.#end = end
      clearTimeout(this.#watchdog)
      clearInterval(this.#heartbeat)
      this.#settle(end)
    }
  }

  #writable(): void {
    this.#congested = false
    if (this.#end === undefined && this.#welcome !== undefined) {
      this.#listener.writable()
    }
  }
}

function retryAfter(metadata: Metadata): number {
  const value = Number(metadata.get('retry-after-ms')[0] ?? 0)
  return Number.isFinite(value) && value > 0 ? value : 0
}
