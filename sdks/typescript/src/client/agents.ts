import { setTimeout as sleep } from 'node:timers/promises'

import type * as api from '../gen/api.js'
import { AgentFailedError } from './errors.js'
import { type Endpoint, send } from './http.js'
import { pages } from './pages.js'
import { type AgentStatus, statusOf } from './types.js'

/** Between two looks at a status: below what a person notices. */
const POLL_MS = 250
/** A first build downloads what it needs. The command line waits as long. */
const READY_TIMEOUT_MS = 1_800_000

/** Reasons that pass by themselves: a host that joins or comes back, a replica that takes its time. */
const PASSING: ReadonlySet<string> = new Set([
  'Unschedulable',
  'HostLost',
  'ShimLost',
  'NotRegistered',
  'Disconnected',
  'ProbeFailed',
  'ScaledToZero',
  'RollingOut',
] satisfies AgentStatus['reason'][])

export interface ReadyOptions {
  /** Default: half an hour. */
  readonly timeoutMs?: number
  /** The generation that must be reached: `deployment.generation`. Default: the present one. */
  readonly generation?: number
  readonly signal?: AbortSignal
}

/** Hosted agents. */
export class AgentClient {
  readonly #endpoint: Endpoint

  /** @internal */
  constructor(endpoint: Endpoint) {
    this.#endpoint = endpoint
  }

  /** Every hosted agent, page by page as they are needed. */
  async *list(options: { readonly signal?: AbortSignal } = {}): AsyncGenerator<api.AgentView> {
    yield* pages<api.AgentView>(this.#endpoint, '/agents', {}, options.signal)
  }

  async status(agent: string, options: { readonly signal?: AbortSignal } = {}): Promise<AgentStatus> {
    return statusOf(await send<api.StatusView>(this.#endpoint, { method: 'GET', path: `${pathOf(agent)}/status`, ...options }))
  }

  /**
   * Waits until every wanted replica takes work.
   *
   * @throws AgentFailedError when the agent has failed in a way that does not
   * pass by itself, or is not ready in time.
   */
  async untilReady(agent: string, options: ReadyOptions = {}): Promise<AgentStatus> {
    const { timeoutMs = READY_TIMEOUT_MS, signal } = options
    const deadline = performance.now() + timeoutMs
    const waiting = signal ? { signal } : {}
    for (;;) {
      const status = await this.status(agent, waiting)
      switch (judge(status, options.generation ?? status.generation)) {
        case 'ready':
          return status
        case 'failed':
          throw new AgentFailedError(status, `${agent} failed`)
        case 'wait':
          if (performance.now() > deadline) {
            throw new AgentFailedError(status, `${agent} was not ready within ${timeoutMs} ms`)
          }
          await sleep(POLL_MS, undefined, waiting)
      }
    }
  }

  async scale(agent: string, replicas: number): Promise<api.AgentView> {
    return send<api.AgentView>(this.#endpoint, { method: 'PUT', path: `${pathOf(agent)}/scale`, json: { replicas } })
  }

  /** Drains and removes an agent with all its revisions. */
  async delete(agent: string): Promise<api.AgentView> {
    return send<api.AgentView>(this.#endpoint, { method: 'DELETE', path: pathOf(agent) })
  }
}

function judge({ phase, reason, observedGeneration, view }: AgentStatus, generation: number): 'ready' | 'failed' | 'wait' {
  if (observedGeneration < generation) {
    return 'wait'
  }
  switch (phase) {
    case 'Ready':
      return reason === 'RollingOut' || !isObserved(view) ? 'wait' : 'ready'
    case 'Failed':
    case 'Degraded':
      return passes(reason) ? 'wait' : 'failed'
    case 'Suspended':
    case 'Deleted':
      return 'failed'
    default:
      return 'wait'
  }
}

/** Whether nothing of a status is only carried over from before its server's start, or from before a host went away. */
function isObserved({ replicas, conditions }: api.StatusView): boolean {
  const isUnheard = ({ kind, holds }: api.Condition): boolean => !holds && ['HostConnected', 'AgentConnected'].includes(kind)
  return !replicas.unconfirmed && !conditions.some(isUnheard)
}

function passes(reason: AgentStatus['reason']): boolean {
  return reason === undefined || PASSING.has(reason)
}

function pathOf(agent: string): string {
  return `/agents/${encodeURIComponent(agent)}`
}
