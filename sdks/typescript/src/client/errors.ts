/** The server answered with a problem document (RFC 9457), or with something that is none. */
export class ApiError extends Error {
  override readonly name = 'ApiError'
  /** The stable word for the problem, e.g. `agent_unavailable`; `http_<status>` where the server gave none. */
  readonly code: string
  /** The HTTP status. */
  readonly status: number
  /** Names the request in the server's log. */
  readonly requestId: string | undefined
  /** The whole problem document; empty where there was none. */
  readonly problem: Readonly<Record<string, unknown>>

  constructor(status: number, problem: Readonly<Record<string, unknown>>) {
    const text = (key: string): string | undefined => {
      const value = problem[key]
      return typeof value === 'string' && value !== '' ? value : undefined
    }
    const code = text('code') ?? `http_${status}`
    super(`${text('detail') ?? text('message') ?? text('title') ?? 'the server said nothing more'} (${code})`)
    this.status = status
    this.code = code
    this.requestId = text('request_id')
    this.problem = problem
  }
}

/** No answer came: the server is away, or the connection broke. Whether the request took effect is unknown. */
export class ConnectionError extends Error {
  override readonly name = 'ConnectionError'
}
