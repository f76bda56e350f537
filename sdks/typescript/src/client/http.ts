import { type IncomingMessage, request as plain, type RequestOptions } from 'node:http'
import { request as secure } from 'node:https'
import type { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'

import { readToken, trustAdvice } from '../config.js'
import { ConfigError, messageOf } from '../errors.js'
import { ApiError, ConnectionError } from './errors.js'
import { type ServerEvent, serverEvents } from './sse.js'

/** A value of the largest blob with its JSON around it. */
const MAX_ANSWER_BYTES = 80 * 1024 * 1024
/** How long the server may stay silent over a request that waits for no agent. */
export const SILENCE_MS = 30_000
/** Streams carry a sign of life every 15 seconds; one that misses three is broken. */
const STREAM_SILENCE_MS = 50_000

/** Where requests go and who makes them. */
export interface Endpoint {
  readonly url: URL
  readonly roots: Buffer | undefined
  readonly caFile: string | undefined
  readonly apiKeyFile: string | undefined
}

/** One request of the HTTP API. */
export interface ApiRequest {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE'
  /** Below `/api`, with its query. */
  readonly path: string
  readonly headers?: Readonly<Record<string, string>>
  readonly json?: unknown
  /** In place of `json`. */
  readonly body?: Readable
  readonly signal?: AbortSignal | undefined
  /** How long the connection may stay silent, in milliseconds. */
  readonly silenceMs?: number
}

/**
 * Makes a request and reads the answer's JSON; null for an empty answer.
 *
 * @throws ApiError when the server refuses; ConnectionError when no answer
 * comes; the signal's reason when it fires.
 */
export function send<T>(endpoint: Endpoint, request: ApiRequest): Promise<T> {
  return guarded(endpoint, request, async () => {
    const answer = await exchange(endpoint, request, 'application/json')
    const text = await readAll(answer)
    request.body?.destroy()
    return interpret(answer.statusCode ?? 0, text) as T
  })
}

/**
 * Makes a request whose answer is a stream of server-sent events, and yields
 * them as they come. Leaving the loop closes the connection.
 *
 * @param opened told once the server has agreed
 * @throws as {@link send}, also from the middle of the stream.
 */
export async function* stream(endpoint: Endpoint, request: ApiRequest, opened?: () => void): AsyncGenerator<ServerEvent> {
  const answer = await guarded(endpoint, request, async () => {
    const answer = await exchange(endpoint, { ...request, silenceMs: STREAM_SILENCE_MS }, 'text/event-stream')
    if (!isSuccess(answer.statusCode ?? 0)) {
      interpret(answer.statusCode ?? 0, await readAll(answer))
    }
    return answer
  })
  opened?.()
  const events = serverEvents(answer)
  try {
    for (;;) {
      const next = await guarded(endpoint, request, () => events.next())
      if (next.done) {
        return
      }
      yield next.value
    }
  } finally {
    answer.destroy()
  }
}

/** Runs `work` and turns whatever it throws into what callers are promised. */
async function guarded<T>(endpoint: Endpoint, request: ApiRequest, work: () => Promise<T>): Promise<T> {
  request.signal?.throwIfAborted()
  try {
    return await work()
  } catch (error) {
    request.signal?.throwIfAborted()
    if (error instanceof ApiError || error instanceof ConfigError) {
      throw error
    }
    const where = `${request.method} ${endpoint.url.origin}/api${request.path}`
    const advice = trustAdvice(messageOf(error), endpoint.caFile)
    throw new ConnectionError(`${where}: ${messageOf(error)}${advice}`, { cause: error })
  }
}

async function exchange(endpoint: Endpoint, request: ApiRequest, accept: string): Promise<IncomingMessage> {
  const headers = await headersOf(endpoint, request, accept)
  const { url, roots } = endpoint
  const options: RequestOptions & { ca?: Buffer } = {
    method: request.method,
    headers,
    ...(request.signal && { signal: request.signal }),
    ...(roots && { ca: roots }),
  }
  const target = new URL(`${url.pathname.replace(/\/$/, '')}/api${request.path}`, url)
  const outgoing = (url.protocol === 'https:' ? secure : plain)(target, options)
  const silenceMs = request.silenceMs ?? SILENCE_MS
  outgoing.setTimeout(silenceMs, () => {
    outgoing.destroy(new Error(`the server said nothing for ${silenceMs} ms`))
  })
  const answered = new Promise<IncomingMessage>((resolve, reject) => {
    outgoing.on('response', resolve).on('error', reject)
  })
  if (request.body === undefined) {
    outgoing.end(request.json === undefined ? undefined : JSON.stringify(request.json))
    return answered
  }
  // A refusal may come before the upload ends; then it is what counts.
  const uploaded = pipeline(request.body, outgoing)
  return Promise.race([answered, uploaded.then(() => answered)])
}

async function headersOf({ apiKeyFile }: Endpoint, request: ApiRequest, accept: string): Promise<Record<string, string>> {
  const headers: Record<string, string> = { accept: `${accept}, application/problem+json`, ...request.headers }
  const key = await readToken(apiKeyFile)
  if (key !== undefined) {
    headers['authorization'] = `Bearer ${key}`
  }
  if (request.json !== undefined) {
    headers['content-type'] = 'application/json'
  }
  return headers
}

async function readAll(answer: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of answer as AsyncIterable<Buffer>) {
    size += chunk.byteLength
    if (size > MAX_ANSWER_BYTES) {
      throw new Error(`the answer is longer than ${MAX_ANSWER_BYTES} bytes`)
    }
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

function isSuccess(status: number): boolean {
  return status >= 200 && status < 300
}

function interpret(status: number, text: string): unknown {
  let json: unknown = null
  try {
    json = text === '' ? null : JSON.parse(text)
  } catch (error) {
    if (isSuccess(status)) {
      throw new Error(`the answer is not JSON: ${messageOf(error)}`)
    }
    json = { detail: text.slice(0, 500) }
  }
  if (!isSuccess(status)) {
    throw new ApiError(status, typeof json === 'object' && json !== null ? { ...json } : {})
  }
  return json
}
