import { setTimeout as sleep } from 'node:timers/promises'

import type * as api from '../gen/api.js'
import { ApiError, ConnectionError } from './errors.js'
import { type ApiRequest, type Endpoint, stream } from './http.js'

/** Between a broken stream and the next: long enough for a server that restarts, in milliseconds. */
const RECONNECT_MS = { first: 200, longest: 5_000 }

/** An entry of a stream: whatever it is, it may be the server's reason to end it. */
interface Entry {
  readonly problem?: api.Problem | null
}

/**
 * Follows a stream through restarts of the server: a broken one is opened again
 * where it was. The first attempt must succeed, so that a wrong address shows.
 *
 * @throws ApiError when the server refuses; ConnectionError when the first
 * attempt gets no answer; the signal's reason when it fires.
 */
export async function* follow<T extends Entry>(endpoint: Endpoint, request: ApiRequest, after = ''): AsyncGenerator<T> {
  let cursor = after
  let connected = false
  for (let pauseMs = RECONNECT_MS.first; ; pauseMs = Math.min(RECONNECT_MS.longest, pauseMs * 2)) {
    try {
      const headers = { ...request.headers, ...(cursor !== '' && { 'last-event-id': cursor }) }
      const opened = (): void => void (connected = true)
      for await (const { id, data } of stream(endpoint, { ...request, headers }, opened)) {
        const entry = data as T
        if (entry.problem) {
          throw ApiError.of(entry.problem)
        }
        cursor = id || cursor
        pauseMs = RECONNECT_MS.first
        yield entry
      }
      return
    } catch (error) {
      if (!connected || !isPassing(error)) {
        throw error
      }
    }
    await sleep(pauseMs, undefined, request.signal ? { signal: request.signal } : {})
  }
}

/** Whether the server, or another in its place, will be back. */
export function isPassing(error: unknown): boolean {
  return error instanceof ConnectionError || (error instanceof ApiError && ['shutting_down', 'store_unavailable'].includes(error.code))
}
