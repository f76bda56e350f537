import type * as api from '../gen/api.js'
import { follow } from './follow.js'
import type { Endpoint } from './http.js'
import { pages } from './pages.js'
import { type RegistryChange, type RegistryEntry, registryEntryOf } from './types.js'

/** Who is connected now. */
export class RegistryClient {
  readonly #endpoint: Endpoint

  /** @internal */
  constructor(endpoint: Endpoint) {
    this.#endpoint = endpoint
  }

  /** Every connected instance, page by page as they are needed. */
  async *list(options: { readonly capability?: string; readonly signal?: AbortSignal } = {}): AsyncGenerator<RegistryEntry> {
    const { capability, signal } = options
    for await (const view of pages<api.RegistryEntry>(this.#endpoint, '/registry', { capability }, signal)) {
      yield registryEntryOf(view)
    }
  }

  /**
   * The present entries, then each change, until the loop is left or the signal
   * fires. After a gap, such as a restart of the server, it begins anew with
   * `resync`.
   */
  async *watch(options: { readonly signal?: AbortSignal } = {}): AsyncGenerator<RegistryChange> {
    const request = { method: 'GET' as const, path: '/registry/watch', ...options }
    // The server ends this stream only with a reason; an end without one is a cut.
    for (;;) {
      for await (const event of follow<api.RegistryEvent & { readonly problem?: api.Problem }>(this.#endpoint, request)) {
        const change = changeOf(event)
        if (change !== undefined) {
          yield change
        }
      }
    }
  }
}

function changeOf(event: api.RegistryEvent): RegistryChange | undefined {
  switch (event.type) {
    case 'resync':
    case 'synced':
      return { type: event.type }
    case 'upserted':
      return { type: 'upserted', entry: registryEntryOf(event.entry) }
    case 'removed':
      return { type: 'removed', agentName: event.agent_name, instanceUuid: event.instance_uuid }
    default:
      // A newer server may tell more.
      return undefined
  }
}
