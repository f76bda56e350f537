/** What {@link TaskError} may carry beside its code and message. */
export interface TaskErrorOptions {
  /** Whether trying again can help. The server retries idempotent capabilities only. Default: false. */
  readonly retryable?: boolean
  /** The wait, in milliseconds, that should pass before a retry. */
  readonly retryAfterMs?: number
  /** The error behind this one. It is logged by the agent and never sent. */
  readonly cause?: unknown
}

/**
 * A failure that the caller is meant to see. Throw it from a handler: its code
 * and message reach the caller as they are. Any other error that a handler
 * throws reaches the caller as code `internal` with the error's message.
 */
export class TaskError extends Error {
  override readonly name = 'TaskError'
  /** The agent's own stable word for the failure, e.g. `invalid_input`. */
  readonly code: string
  readonly retryable: boolean
  readonly retryAfterMs: number

  constructor(code: string, message: string, options: TaskErrorOptions = {}) {
    super(message, { cause: options.cause })
    this.code = code
    this.retryable = options.retryable ?? false
    this.retryAfterMs = options.retryAfterMs ?? 0
  }
}

/** Why a task's signal was aborted. */
export type AbortKind =
  /** The caller, or the server, does not want the result any more. */
  | 'cancelled'
  /** The task's deadline passed. */
  | 'deadline'
  /** The agent stops and its grace period is over. */
  | 'stopping'

/** The `reason` of a task's {@link AbortSignal}. */
export class TaskAbortedError extends Error {
  override readonly name = 'AbortError'
  readonly kind: AbortKind

  constructor(kind: AbortKind, message: string) {
    super(message)
    this.kind = kind
  }
}

/** A setting is missing or wrong; the message names it. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError'
}

/** Why the server will not have this agent. */
export type RefusalCode =
  /** Another process took over this instance's uuid. */
  | 'superseded'
  /** The credential may not claim this agent name. */
  | 'permission_denied'
  /** Server and SDK have no protocol version in common. */
  | 'no_common_version'
  /** The server rejected what the agent said about itself. */
  | 'invalid_hello'

/** The server refused the agent for a reason that trying again does not mend. */
export class SessionRefusedError extends Error {
  override readonly name = 'SessionRefusedError'
  readonly code: RefusalCode

  constructor(code: RefusalCode, message: string) {
    super(message)
    this.code = code
  }
}

/** The message of anything that was thrown, without a stack. */
export function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown)
}
