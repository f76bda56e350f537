import { randomUUID } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { pipeline, Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { createGzip } from 'node:zlib'

import { apiKeyFile, caFileOf, readRootsSync, serverUrl } from '../config.js'
import { type ApiRequest, type Endpoint, send } from './http.js'
import { DEFAULT_IGNORED, tarOf } from './tar.js'
import {
  type Deployment,
  type DeploySpec,
  documentOf,
  type Invocation,
  invocationOf,
  type RegistryEntry,
  storedValueOf,
  type TaskInfo,
  taskOf,
} from './types.js'

/** How long the server may stay silent over a request that waits for no agent. */
const SILENCE_MS = 30_000
/** What a call may take beyond its own deadline before the caller gives up on the server. */
const DEADLINE_SLACK_MS = 10_000
/** A call without a deadline has the server's default, which is shorter than this. */
const UNBOUNDED_CALL_MS = 24 * 60 * 60 * 1_000
/** Bounds of the time between two looks at a task. */
const POLL_MS = { first: 100, longest: 2_000 }

const ENDED: ReadonlySet<string> = new Set(['succeeded', 'failed', 'cancelled', 'expired', 'lost'])

/** Where the server is and who calls. Everything has a default from the environment. */
export interface ClientOptions {
  /** Default: `PARALLAX_URL`. */
  readonly url?: string
  /** A file with an API key, read again at each request. Default: `PARALLAX_API_KEY_FILE`. */
  readonly apiKeyFile?: string
  /** A PEM file with the roots to trust. Default: `PARALLAX_CA_FILE`, else the system's. */
  readonly caFile?: string
}

export interface CallOptions {
  /** How long the agent may take, in milliseconds. Default: the server's. */
  readonly deadlineMs?: number
  /** Groups tasks that belong to one conversation. */
  readonly contextId?: string
  /** Gives up waiting; an attached call is cancelled by that. */
  readonly signal?: AbortSignal
}

export interface SubmitOptions extends CallOptions {
  /** The same key with the same request answers the same task. Default: a fresh one. */
  readonly idempotencyKey?: string
}

export interface DeployOptions {
  /** Names of files and folders to leave out, at any depth. */
  readonly ignore?: readonly string[]
  /** Returns the plan and changes nothing. */
  readonly dryRun?: boolean
  readonly signal?: AbortSignal
}

/** Calls agents, and deploys them, over the HTTP API. Each method throws ApiError or ConnectionError. */
export class Client {
  readonly tasks: TaskClient
  readonly registry: RegistryClient
  readonly #endpoint: Endpoint

  /** @throws ConfigError when there is no usable URL, or a file cannot be read. */
  constructor(options: ClientOptions = {}) {
    this.#endpoint = {
      url: serverUrl(options.url),
      roots: readRootsSync(caFileOf(options.caFile)),
      apiKeyFile: apiKeyFile(options.apiKeyFile),
    }
    this.tasks = new TaskClient(this.#endpoint)
    this.registry = new RegistryClient(this.#endpoint)
  }

  /**
   * Calls an agent and waits for its answer. The work is cancelled when the
   * caller goes away; see {@link submit} for work that must not be.
   *
   * @param agent the agent's id or name
   */
  async invoke<Output = unknown>(
    agent: string,
    capability: string,
    input: unknown,
    options: CallOptions = {},
  ): Promise<Invocation<Output>> {
    const silenceMs = options.deadlineMs === undefined ? UNBOUNDED_CALL_MS : options.deadlineMs + DEADLINE_SLACK_MS
    const json = await send(this.#endpoint, { ...call(agent, capability, input, options), silenceMs })
    return answerOf<Output>(this.#endpoint, json, options.signal)
  }

  /** Hands over a durable task: committed before this resolves, it survives caller and server. */
  async submit<Output = unknown>(agent: string, capability: string, input: unknown, options: SubmitOptions = {}): Promise<TaskInfo<Output>> {
    const headers = { prefer: 'respond-async', 'idempotency-key': options.idempotencyKey ?? randomUUID() }
    return taskOf(await send(this.#endpoint, { ...call(agent, capability, input, options), headers, silenceMs: SILENCE_MS }))
  }

  /**
   * Deploys an agent from its source.
   *
   * @param source a folder, or a `.tar.gz` file
   */
  async deploy(source: string, spec: DeploySpec, options: DeployOptions = {}): Promise<Deployment> {
    const archive = (await stat(source)).isDirectory() ? packed(source, options.ignore) : createReadStream(source)
    const boundary = `parallax-${randomUUID()}`
    const json = await send(this.#endpoint, {
      method: 'POST',
      path: `/agents/deploy${options.dryRun ? '?dry_run=true' : ''}`,
      headers: { 'content-type': `multipart/form-data; boundary=${boundary}`, 'idempotency-key': randomUUID() },
      body: Readable.from(multipart(boundary, specDocument(spec), archive)),
      signal: options.signal,
      silenceMs: SILENCE_MS,
    })
    const document = documentOf(json)
    return { document, statusUrl: String(document['status_url'] ?? ''), changed: document['changed'] !== false }
  }
}

/** Durable tasks. */
export class TaskClient {
  readonly #endpoint: Endpoint

  /** @internal */
  constructor(endpoint: Endpoint) {
    this.#endpoint = endpoint
  }

  async get<Output = unknown>(id: string, options: Pick<CallOptions, 'signal'> = {}): Promise<TaskInfo<Output>> {
    const path = `/tasks/${encodeURIComponent(id)}`
    const json = await send(this.#endpoint, { ...request('GET', path), ...options })
    const task = taskOf<Output>(json)
    const { answer } = documentOf(documentOf(json)['outcome'])
    return task.answer === undefined ? task : { ...task, answer: await answerOf(this.#endpoint, answer, options.signal) }
  }

  /** Asks for a stop. The answer says how far the cancel is, not that the work has stopped. */
  async cancel(id: string, reason = ''): Promise<TaskInfo> {
    const path = `/tasks/${encodeURIComponent(id)}/cancel`
    return taskOf(await send(this.#endpoint, { ...request('POST', path), json: { reason } }))
  }

  /** Waits until the task has ended, whichever way. */
  async wait<Output = unknown>(id: string, options: Pick<CallOptions, 'signal'> = {}): Promise<TaskInfo<Output>> {
    for (let pauseMs = POLL_MS.first; ; pauseMs = Math.min(POLL_MS.longest, pauseMs * 1.5)) {
      const task = await this.get<Output>(id, options)
      if (ENDED.has(task.state)) {
        return task
      }
      await sleep(pauseMs, undefined, options)
    }
  }
}

/** Who is connected now. */
export class RegistryClient {
  readonly #endpoint: Endpoint

  /** @internal */
  constructor(endpoint: Endpoint) {
    this.#endpoint = endpoint
  }

  /** Every connected instance, page by page as they are needed. */
  async *list(options: Pick<CallOptions, 'signal'> = {}): AsyncGenerator<RegistryEntry> {
    let cursor = ''
    do {
      const query = cursor === '' ? '' : `?cursor=${encodeURIComponent(cursor)}`
      const page = documentOf(await send(this.#endpoint, { ...request('GET', `/registry${query}`), ...options }))
      yield* (page['items'] ?? []) as RegistryEntry[]
      cursor = typeof page['next_cursor'] === 'string' ? page['next_cursor'] : ''
    } while (cursor !== '')
  }
}

/** An answer with its value, also where that is too large to come along. */
async function answerOf<T>(endpoint: Endpoint, json: unknown, signal: AbortSignal | undefined): Promise<Invocation<T>> {
  const answer = invocationOf<T>(json)
  if (answer.value !== undefined || storedValueOf(documentOf(json)['blob']) === undefined) {
    return answer
  }
  const value = await send(endpoint, { ...request('GET', `/tasks/${encodeURIComponent(answer.taskId)}/blob`), signal })
  return { ...answer, value: value as T }
}

function request(method: ApiRequest['method'], path: string): Pick<ApiRequest, 'method' | 'path' | 'silenceMs'> {
  return { method, path, silenceMs: SILENCE_MS }
}

function call(agent: string, capability: string, input: unknown, options: CallOptions) {
  const { deadlineMs, contextId, signal } = options
  return {
    method: 'POST' as const,
    path: `/agents/${encodeURIComponent(agent)}/invoke`,
    json: { capability, input, ...(deadlineMs !== undefined && { deadline_ms: deadlineMs }), ...(contextId && { context_id: contextId }) },
    signal,
  }
}

function packed(folder: string, ignore: readonly string[] = []): Readable {
  const gzip = createGzip()
  // An error on the way destroys gzip with it, and its reader sees it.
  pipeline(Readable.from(tarOf(folder, new Set([...DEFAULT_IGNORED, ...ignore]))), gzip, () => undefined)
  return gzip
}

function specDocument({ rootDir, stopGraceMs, ...rest }: DeploySpec): object {
  return {
    ...rest,
    ...(rootDir !== undefined && { root_dir: rootDir }),
    ...(stopGraceMs !== undefined && { stop_grace_ms: stopGraceMs }),
  }
}

async function* multipart(boundary: string, spec: object, archive: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const part = (disposition: string, type: string): string =>
    `--${boundary}\r\ncontent-disposition: form-data; ${disposition}\r\ncontent-type: ${type}\r\n\r\n`
  yield Buffer.from(`${part('name="spec"', 'application/json')}${JSON.stringify(spec)}\r\n`)
  yield Buffer.from(part('name="source"; filename="source.tar.gz"', 'application/gzip'))
  yield* archive
  yield Buffer.from(`\r\n--${boundary}--\r\n`)
}
