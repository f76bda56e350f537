import { status } from '@grpc/grpc-js'

import { type Connection, trustAdvice } from '../config.js'
import { messageOf, type RefusalCode, SessionRefusedError } from '../errors.js'
import { Goaway_Reason, type Hello, type Welcome } from '../gen/parallax/v1/agents_pb.js'
import type { Logger } from '../logger.js'
import { jitteredDelayMs, pause } from './backoff.js'
import { openChannel } from './channel.js'
import { Session, type SessionEnd, type SessionListener } from './session.js'
import type { TaskTable } from './tasks.js'
import type { DownFrame } from './wire.js'

/** Of the grace period, the part that tasks may use; the rest is for telling the server of those that did not end. */
const GRACE_FOR_TASKS = 0.9

/** What stays the same in every Hello. */
export type Introduction = Pick<
  Hello,
  'agentName' | 'capabilities' | 'features' | 'instanceUuid' | 'labels' | 'protoVersions' | 'sdk'
>

/** What a supervisor works with. */
export interface SupervisorOptions {
  readonly connection: Connection
  readonly introduction: Introduction
  readonly tasks: TaskTable
  readonly log: Logger
  readonly stopGraceMs: number
  /** Called at each Welcome. */
  readonly onConnected: () => void
}

/** Keeps one instance connected until it is told to stop, by either side. */
export class Supervisor implements SessionListener {
  readonly #options: SupervisorOptions
  readonly #tasks: TaskTable
  readonly #log: Logger
  /** Fires when waiting between two dials makes no sense any more. */
  readonly #hurry = new AbortController()
  #session: Session | undefined
  #graceTimers: NodeJS.Timeout[] = []
  #stopping: 'asked' | 'removed' | undefined
  #failures = 0

  constructor(options: SupervisorOptions) {
    this.#options = options
    this.#tasks = options.tasks
    this.#log = options.log
    this.#tasks.onIdle = () => this.#idle()
  }

  /**
   * Serves until the end.
   *
   * @throws SessionRefusedError when the server will not have the agent; ConfigError when the first dial finds its
   * files missing.
   */
  async run(): Promise<void> {
    try {
      while (!this.#finished()) {
        const end = await this.#serve()
        const delayMs = this.#after(end)
        if (delayMs === undefined || this.#finished()) {
          return
        }
        this.#log.info('connecting again', { in_ms: Math.round(delayMs), because: describe(end, this.#options.connection.caFile) })
        await pause(delayMs, this.#hurry.signal)
      }
    } finally {
      this.#graceTimers.forEach(clearTimeout)
      this.#tasks.abortAll('the agent stops')
    }
  }

  /** Takes no more tasks and ends once those it has are done, or the grace period is over. */
  stop(): void {
    if (this.#stopping === undefined) {
      this.#log.info('stopping', { grace_ms: this.#options.stopGraceMs, running: this.#tasks.inflight })
      this.#beginStop('asked')
      this.#idle()
    }
  }

  /** Ends without waiting for anybody. */
  stopNow(): void {
    this.#stopping ??= 'asked'
    this.#tasks.drain()
    this.#tasks.abortAll('the agent stops at once')
    this.#hurry.abort()
    this.#session?.close()
  }

  welcomed(session: Session, welcome: Welcome): void {
    this.#failures = 0
    this.#log.info('connected', { session: welcome.sessionId, epoch: String(welcome.leaseEpoch) })
    this.#tasks.attach(session, welcome)
    if (this.#stopping !== undefined) {
      this.#sendDrain()
    }
    this.#options.onConnected()
  }

  frame(frame: DownFrame): void {
    this.#tasks.receive(frame)
  }

  removed(): void {
    this.#log.info('the server removed this replica: finishing')
    if (this.#stopping === undefined) {
      this.#beginStop('removed')
    }
    this.#stopping = 'removed'
    this.#idle()
  }

  writable(): void {
    this.#tasks.flushProgress()
  }

  inflight(): number {
    return this.#tasks.inflight
  }

  async #serve(): Promise<SessionEnd> {
    const { connection, introduction } = this.#options
    try {
      const channel = await openChannel(connection)
      const metadata = await channel.metadata()
      this.#session = new Session(channel, metadata, { ...introduction, ...this.#tasks.hello() }, this)
      return await this.#session.ended
    } catch (error) {
      // The credential or the roots cannot be read: fatal at the start, but a
      // renewal in progress looks the same later.
      if (this.#session === undefined) {
        throw error
      }
      return {
        kind: 'status',
        code: status.UNAUTHENTICATED,
        message: messageOf(error),
        welcomed: false,
        retryAfterMs: 0,
      }
    } finally {
      this.#tasks.detach()
    }
  }

  /** The wait before the next dial; undefined when there is to be none. */
  #after(end: SessionEnd): number | undefined {
    switch (end.kind) {
      case 'closed':
        return undefined
      case 'goaway':
        return this.#afterGoaway(end.reason, end.message, end.reconnectAfterMs)
      case 'status': {
        const refusal = refusalOf(end.code, end.welcomed)
        if (refusal !== undefined) {
          throw new SessionRefusedError(refusal, `the server refused the agent: ${end.message}`)
        }
        return this.#stopping === 'removed' ? undefined : this.#delay(end.retryAfterMs)
      }
    }
  }

  #afterGoaway(reason: Goaway_Reason, message: string, reconnectAfterMs: number): number | undefined {
    switch (reason) {
      case Goaway_Reason.DRAINED:
      case Goaway_Reason.REMOVED:
        return undefined
      case Goaway_Reason.SUPERSEDED:
        throw new SessionRefusedError(
          'superseded',
          `another session took over this instance${message === '' ? '' : `: ${message}`}`,
        )
      default:
        return this.#delay(reconnectAfterMs)
    }
  }

  /** At least what the server asked for, plus jitter, so that agents do not return all at once. */
  #delay(askedMs: number): number {
    const jittered = jitteredDelayMs(this.#failures, Math.random())
    this.#failures += 1
    return askedMs + jittered
  }

  #beginStop(why: 'asked' | 'removed'): void {
    const { stopGraceMs } = this.#options
    this.#stopping = why
    this.#tasks.drain()
    this.#sendDrain()
    this.#graceTimers = [
      setTimeout(() => this.#tasks.abortAll("the agent's grace period is over"), stopGraceMs * GRACE_FOR_TASKS),
      setTimeout(() => this.stopNow(), stopGraceMs),
    ]
  }

  #sendDrain(): void {
    if (this.#session?.open) {
      this.#session.send({ case: 'drain', value: { deadlineMs: BigInt(this.#options.stopGraceMs) } })
    }
  }

  /** Nothing runs and the server has every outcome. */
  #idle(): void {
    if (this.#stopping === undefined || !this.#tasks.idle) {
      return
    }
    this.#hurry.abort()
    // After a drain that was asked for, the server says goodbye itself.
    if (this.#stopping === 'removed' || !this.#session?.open) {
      this.#session?.close()
    }
  }

  #finished(): boolean {
    return this.#stopping !== undefined && (this.#tasks.idle || this.#hurry.signal.aborted)
  }
}

function refusalOf(code: status, welcomed: boolean): RefusalCode | undefined {
  switch (code) {
    case status.PERMISSION_DENIED:
      return 'permission_denied'
    case status.FAILED_PRECONDITION:
      return 'no_common_version'
    case status.INVALID_ARGUMENT:
      // Later it names a single frame, and the next session starts clean.
      return welcomed ? undefined : 'invalid_hello'
    default:
      return undefined
  }
}

function describe(end: SessionEnd, caFile: string | undefined): string {
  switch (end.kind) {
    case 'closed':
      return 'closed'
    case 'goaway':
      return `${Goaway_Reason[end.reason]} ${end.message}`.trim()
    case 'status':
      return `${status[end.code]} ${end.message}${end.code === status.UNAVAILABLE ? trustAdvice(end.message, caFile) : ''}`.trim()
  }
}
