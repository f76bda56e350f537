import type * as api from '../gen/api.js'
import type { AgentStatus, ProblemCode } from './types.js'

/** The server answered with a problem document (RFC 9457), or with something that is none. */
export class ApiError extends Error {
  override readonly name = 'ApiError'
  /** The stable word for the problem, e.g. `agent_unavailable`; `http_<status>` where the server gave none. */
  readonly code: ProblemCode
  /** The HTTP status. */
  readonly status: number
  /** Names the request in the server's log. */
  readonly requestId: string | undefined
  /** The agent's own word for its failure, where the agent failed the task. */
  readonly agentCode: string | undefined
  /** The task that this speaks of, where there is one. */
  readonly taskId: string | undefined
  /** Whether the same request may succeed later. */
  readonly retryable: boolean
  /** The whole problem document; empty where there was none. */
  readonly problem: Readonly<Record<string, unknown>>

  constructor(status: number, problem: Readonly<Record<string, unknown>>) {
    const text = (key: keyof api.Problem): string | undefined => {
      const value = problem[key]
      return typeof value === 'string' && value !== '' ? value : undefined
    }
    const code = text('code') ?? `http_${status}`
    super(`${text('detail') ?? text('title') ?? 'the server said nothing more'} (${code})`)
    this.status = status
    this.code = code
    this.requestId = text('request_id')
    this.agentCode = text('agent_code')
    this.taskId = text('task_id')
    this.retryable = problem['retryable'] === true
    this.problem = problem
  }

  /** The error of a problem that came within a stream. @internal */
  static of(problem: api.Problem): ApiError {
    return new ApiError(problem.status, { ...problem })
  }
}

/** No answer came: the server is away, or the connection broke. Whether the request took effect is unknown. */
export class ConnectionError extends Error {
  override readonly name = 'ConnectionError'
}

/** An agent that was waited for did not become ready. */
export class AgentFailedError extends Error {
  override readonly name = 'AgentFailedError'
  /** The last one seen. */
  readonly status: AgentStatus

  constructor(status: AgentStatus, what: string) {
    const { phase, reason, message } = status
    super(`${what}: ${phase}${reason === undefined ? '' : ` (${reason})`}${message === '' ? '' : `: ${message}`}`)
    this.status = status
  }
}
