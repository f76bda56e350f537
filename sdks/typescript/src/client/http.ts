import { type IncomingMessage, request as plain, type RequestOptions } from 'node:http'
import { request as secure } from 'node:https'
import type { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'

import { readToken } from '../config.js'
import { ConfigError, messageOf } from '../errors.js'
import { ApiError, ConnectionError } from './errors.js'

/** A value of the largest blob with its JSON around it. */
const MAX_ANSWER_BYTES = 80 * 1024 * 1024

/** Where requests go and who makes them. */
export interface Endpoint {
  readonly url: URL
  readonly roots: Buffer | undefined
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
  /** How long the connection may stay silent. */
  readonly silenceMs: number
}

/**
 * Makes a request and reads the answer's JSON; null for an empty answer.
 *
 * @throws ApiError when the server refuses; ConnectionError when no answer
 * comes; the signal's reason when it fires.
 */
export async function send(endpoint: Endpoint, request: ApiRequest): Promise<unknown> {
  request.signal?.throwIfAborted()
  const headers = await headersOf(endpoint, request)
  try {
    const answer = await exchange(endpoint, request, headers)
    const text = await readAll(answer)
    request.body?.destroy()
    return interpret(answer.statusCode ?? 0, text)
  } catch (error) {
    request.signal?.throwIfAborted()
    if (error instanceof ApiError || error instanceof ConfigError) {
      throw error
    }
    throw new ConnectionError(`${request.method} ${endpoint.url.origin}/api${request.path}: ${messageOf(error)}`, {
      cause: error,
    })
  }
}

async function headersOf({ apiKeyFile }: Endpoint, request: ApiRequest): Promise<Record<string, string>> {
  const headers: Record<string, string> = { accept: 'application/json', ...request.headers }
  const key = await readToken(apiKeyFile)
  if (key !== undefined) {
    headers['authorization'] = `Bearer ${key}`
  }
  if (request.json !== undefined) {
    headers['content-type'] = 'application/json'
  }
  return headers
}

async function exchange(
  { url, roots }: Endpoint,
  request: ApiRequest,
  headers: Record<string, string>,
): Promise<IncomingMessage> {
  const options: RequestOptions & { ca?: Buffer } = {
    method: request.method,
    headers,
    ...(request.signal && { signal: request.signal }),
    ...(roots && { ca: roots }),
  }
  const target = new URL(`${url.pathname.replace(/\/$/, '')}/api${request.path}`, url)
  const outgoing = (url.protocol === 'https:' ? secure : plain)(target, options)
  outgoing.setTimeout(request.silenceMs, () => {
    outgoing.destroy(new Error(`the server said nothing for ${request.silenceMs} ms`))
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

function interpret(status: number, text: string): unknown {
  const ok = status >= 200 && status < 300
  let json: unknown = null
  try {
    json = text === '' ? null : JSON.parse(text)
  } catch (error) {
    if (ok) {
      throw new Error(`the answer is not JSON: ${messageOf(error)}`)
    }
    json = { detail: text.slice(0, 500) }
  }
  if (!ok) {
    throw new ApiError(status, typeof json === 'object' && json !== null ? { ...json } : {})
  }
  return json
}
