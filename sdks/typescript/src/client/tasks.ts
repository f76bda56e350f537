import { setTimeout as sleep } from 'node:timers/promises'

import type * as api from '../gen/api.js'
import { follow, isPassing } from './follow.js'
import { type Endpoint, send } from './http.js'
import { pages } from './pages.js'
import {
  type Invocation,
  invocationOf,
  signOfLifeOf,
  type TaskEvent,
  taskEventOf,
  type TaskInfo,
  type TaskNews,
  taskOf,
  type TaskState,
} from './types.js'

/** Between two looks for a server that is away. */
const AWAY_MS = 1_000

/** Durable tasks. */
export class TaskClient {
  readonly #endpoint: Endpoint

  /** @internal */
  constructor(endpoint: Endpoint) {
    this.#endpoint = endpoint
  }

  async get<Output = unknown>(id: string, options: { readonly signal?: AbortSignal } = {}): Promise<TaskInfo<Output>> {
    const view = await send<api.TaskView>(this.#endpoint, { method: 'GET', path: pathOf(id), ...options })
    const task = taskOf<Output>(view)
    const answer = view.outcome?.answer
    return answer ? { ...task, answer: await answerOf(this.#endpoint, answer, options.signal) } : task
  }

  /** Tasks, newest first, page by page as they are needed. */
  async *list(
    options: { readonly agent?: string; readonly state?: TaskState; readonly signal?: AbortSignal } = {},
  ): AsyncGenerator<TaskInfo> {
    const { agent, state, signal } = options
    for await (const view of pages<api.TaskView>(this.#endpoint, '/tasks', { agent, state }, signal)) {
      yield taskOf(view)
    }
  }

  /** Asks for a stop. The answer says how far the cancel is, not that the work has stopped. */
  async cancel(id: string, reason = ''): Promise<TaskInfo> {
    return taskOf(await send<api.TaskView>(this.#endpoint, { method: 'POST', path: `${pathOf(id)}/cancel`, json: { reason } }))
  }

  /** Sends an answer, or any further message, to a running task. */
  async input(id: string, inputId: string, value: unknown): Promise<void> {
    const json = { input_id: inputId, value }
    await send(this.#endpoint, { method: 'POST', path: `${pathOf(id)}/input`, json })
  }

  /**
   * Every change of a task, from the first one or from after a cursor, until its
   * end. A server that restarts meanwhile interrupts this and does not end it.
   */
  async *events<Output = unknown>(
    id: string,
    options: { readonly after?: number; readonly signal?: AbortSignal } = {},
  ): AsyncGenerator<TaskEvent<Output>> {
    for await (const news of this.watch<Output>(id, options)) {
      if (news.type === 'event') {
        yield news.event
      }
    }
  }

  /**
   * As {@link events}, and with what the attempt under way says of itself on the
   * way: progress and partial results, to those who watch at that time.
   */
  async *watch<Output = unknown>(
    id: string,
    options: { readonly after?: number; readonly signal?: AbortSignal } = {},
  ): AsyncGenerator<TaskNews<Output>> {
    const request = { method: 'GET' as const, path: `${pathOf(id)}/events`, signal: options.signal }
    for await (const entry of follow<api.TaskEntry>(this.#endpoint, request, options.after ? String(options.after) : '')) {
      const sign = signOfLifeOf(entry)
      if (entry.event) {
        yield { type: 'event', event: taskEventOf<Output>(entry.event) }
      } else if (sign) {
        yield sign
      } else if (typeof entry.skipped === 'number') {
        yield { type: 'skipped', count: entry.skipped }
      }
    }
  }

  /** Waits until the task has ended, whichever way, also through restarts of the server. */
  async wait<Output = unknown>(id: string, options: { readonly signal?: AbortSignal } = {}): Promise<TaskInfo<Output>> {
    for (let [after, known] = [0, false]; ; ) {
      try {
        const task = await this.get<Output>(id, options)
        if (task.ended) {
          return task
        }
        known = true
        for await (const { cursor } of this.events(id, { ...options, after })) {
          after = cursor
        }
      } catch (error) {
        // A task that is known is durable: it is still there when the server is back.
        if (!known || !isPassing(error)) {
          throw error
        }
        await sleep(AWAY_MS, undefined, options)
      }
    }
  }
}

/** An answer with its value, also where that is too large to come along. */
export async function answerOf<T>(endpoint: Endpoint, json: api.InvokeResponse, signal: AbortSignal | undefined): Promise<Invocation<T>> {
  const answer = invocationOf<T>(json)
  if (!json.blob) {
    return answer
  }
  const path = `${pathOf(json.task_id)}/blob`
  return { ...answer, value: await send<T>(endpoint, { method: 'GET', path, signal }) }
}

function pathOf(id: string): string {
  return `/tasks/${encodeURIComponent(id)}`
}
