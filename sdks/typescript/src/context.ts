import type { Logger } from './logger.js'

/**
 * W3C Trace Context and Baggage as they came with the task; empty when absent.
 * It does as a carrier of OpenTelemetry's propagators, and as `trace` of a call
 * to another agent.
 */
export interface TraceContext {
  readonly traceparent: string
  readonly tracestate: string
  readonly baggage: string
}

/** An answer or a further message that reached a running task. */
export interface TaskInput<T = unknown> {
  readonly id: string
  readonly value: T
}

/** What a handler knows of its task, and what it can do beside returning. */
export interface TaskContext {
  /** `tsk_…`; the same for every attempt. */
  readonly taskId: string
  /** Counts from 1. */
  readonly attempt: number
  readonly capability: string
  /** Stable across attempts: hand it to whatever must not happen twice. */
  readonly idempotencyKey: string
  /** Aborted with a `TaskAbortedError` by a cancel, the deadline, or the end of the agent's grace period. */
  readonly signal: AbortSignal
  /** When the task must be done; undefined when there is no deadline. */
  readonly deadline: Date | undefined
  readonly trace: TraceContext
  /** The name of the credential that asked. */
  readonly caller: string
  /** Groups tasks of one conversation; may be empty. */
  readonly contextId: string
  readonly sessionId: string
  /** Unique per delivery. */
  readonly messageId: string
  /** The execution and step that asked; empty outside a pattern. */
  readonly run: string
  readonly step: string
  /** Adds the task's id to each line. */
  readonly log: Logger
  /**
   * What others send to the running task, in order. The iteration throws the
   * signal's reason when the task is aborted.
   */
  readonly inputs: AsyncIterable<TaskInput>

  /** Milliseconds until the deadline, never below 0; undefined when there is none. */
  timeLeftMs(): number | undefined
  /**
   * Says how far the work is. Never waits; where the connection is slow only
   * the newest is sent.
   *
   * @param fraction from 0 to 1, or undefined when the agent cannot tell
   */
  progress(fraction: number | undefined, message?: string): void
  /**
   * Sends a piece of the result early. Resolves once the server has room for
   * it: await each call. Rejects with the signal's reason when the task is
   * aborted first.
   */
  partial(chunk: string | Uint8Array): Promise<void>
}
