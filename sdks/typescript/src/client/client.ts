import { randomUUID } from 'node:crypto'

import { apiKeyFile, caFileOf, readRootsSync, serverUrl } from '../config.js'
import type * as api from '../gen/api.js'
import { AgentClient } from './agents.js'
import { upload } from './deploy.js'
import { ApiError, ConnectionError } from './errors.js'
import { type ApiRequest, type Endpoint, send, SILENCE_MS, stream } from './http.js'
import { RegistryClient } from './registry.js'
import { answerOf, TaskClient } from './tasks.js'
import { type CallUpdate, type Deployment, deploymentOf, type DeploySpec, type Invocation, signOfLifeOf, type TaskInfo, taskOf } from './types.js'

/** What a call may take beyond its own deadline before the caller gives up on the server. */
const DEADLINE_SLACK_MS = 10_000
/** A call without a deadline has the server's default, which is shorter than this. */
const UNBOUNDED_CALL_MS = 24 * 60 * 60 * 1_000

/** Where the server is and who calls. Everything has a default from the environment. */
export interface ClientOptions {
  /** Default: `PARALLAX_URL`. */
  readonly url?: string
  /** A file with an API key, read again at each request. Default: `PARALLAX_API_KEY_FILE`. */
  readonly apiKeyFile?: string
  /** A PEM file with the roots to trust. Default: `PARALLAX_CA_FILE`, else the system's. */
  readonly caFile?: string
}

/** W3C Trace Context and Baggage to go on with; a handler passes its `ctx.trace`. */
export interface CallTrace {
  readonly traceparent?: string
  readonly tracestate?: string
  readonly baggage?: string
}

export interface CallOptions {
  /** How long the agent may take, in milliseconds. Default: the server's. */
  readonly deadlineMs?: number
  /** Groups tasks that belong to one conversation. */
  readonly contextId?: string
  readonly trace?: CallTrace
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
  readonly signal?: AbortSignal
}

/** Calls agents, and deploys them, over the HTTP API. Each method throws ApiError or ConnectionError. */
export class Client {
  readonly agents: AgentClient
  readonly tasks: TaskClient
  readonly registry: RegistryClient
  readonly #endpoint: Endpoint

  /** @throws ConfigError when there is no usable URL, or a file cannot be read. */
  constructor(options: ClientOptions = {}) {
    const caFile = caFileOf(options.caFile)
    this.#endpoint = {
      url: serverUrl(options.url),
      roots: readRootsSync(caFile),
      caFile,
      apiKeyFile: apiKeyFile(options.apiKeyFile),
    }
    this.agents = new AgentClient(this.#endpoint)
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
    const json = await send<api.InvokeResponse>(this.#endpoint, { ...call(agent, capability, input, options), silenceMs })
    return answerOf<Output>(this.#endpoint, json, options.signal)
  }

  /**
   * As {@link invoke}, and tells progress and partial results on the way. Leaving
   * the loop before the answer cancels the work.
   */
  async *stream<Output = unknown>(
    agent: string,
    capability: string,
    input: unknown,
    options: CallOptions = {},
  ): AsyncGenerator<CallUpdate<Output>> {
    for await (const { data } of stream(this.#endpoint, call(agent, capability, input, options))) {
      const entry = data as api.TaskEntry
      const { answer, problem } = entry
      const sign = signOfLifeOf(entry)
      if (sign) {
        yield sign
      } else if (problem) {
        throw ApiError.of(problem)
      } else if (answer) {
        yield { type: 'answer', answer: await answerOf<Output>(this.#endpoint, answer, options.signal) }
        return
      }
    }
    throw new ConnectionError(`calling ${agent}: the stream ended without an answer`)
  }

  /** Hands over a durable task: committed before this resolves, it survives caller and server. */
  async submit<Output = unknown>(agent: string, capability: string, input: unknown, options: SubmitOptions = {}): Promise<TaskInfo<Output>> {
    const request = call(agent, capability, input, options)
    const headers = { ...request.headers, prefer: 'respond-async', 'idempotency-key': options.idempotencyKey ?? randomUUID() }
    return taskOf(await send<api.TaskView>(this.#endpoint, { ...request, headers, silenceMs: SILENCE_MS }))
  }

  /**
   * Deploys an agent from its source. Resolves once the source is stored; see
   * {@link AgentClient.untilReady} for the rest.
   *
   * @param source a folder, or a `.tar.gz` file
   */
  async deploy(source: string, spec: DeploySpec, options: DeployOptions = {}): Promise<Deployment> {
    const request = await upload(source, spec, options)
    return deploymentOf(await send<api.DeployResponse>(this.#endpoint, { ...request, path: '/agents/deploy' }))
  }

  /** What {@link deploy} would do. Nothing is changed. */
  async dryRun(source: string, spec: DeploySpec, options: DeployOptions = {}): Promise<api.DryRun> {
    const request = await upload(source, spec, options)
    return send<api.DryRun>(this.#endpoint, { ...request, path: '/agents/deploy?dry_run=true' })
  }
}

function call(agent: string, capability: string, input: unknown, options: CallOptions): ApiRequest {
  const { deadlineMs, contextId, trace, signal } = options
  const headers = Object.entries({ ...trace }).filter(([, value]) => typeof value === 'string' && value !== '')
  return {
    method: 'POST',
    path: `/agents/${encodeURIComponent(agent)}/invoke`,
    headers: Object.fromEntries(headers) as Record<string, string>,
    json: { capability, input, ...(deadlineMs !== undefined && { deadline_ms: deadlineMs }), ...(contextId && { context_id: contextId }) },
    signal,
  }
}
