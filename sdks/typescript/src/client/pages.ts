import type { Page } from '../gen/api.js'
import { type Endpoint, send } from './http.js'

/** Every item of a list, page by page as they are needed. */
export async function* pages<T>(
  endpoint: Endpoint,
  path: string,
  query: Readonly<Record<string, string | undefined>>,
  signal: AbortSignal | undefined,
): AsyncGenerator<T> {
  const wanted = Object.entries(query).filter((entry): entry is [string, string] => entry[1] !== undefined)
  for (let cursor: string | null | undefined = ''; cursor !== undefined && cursor !== null; ) {
    const search = new URLSearchParams(cursor === '' ? wanted : [...wanted, ['cursor', cursor]]).toString()
    const page: Page<T> = await send<Page<T>>(endpoint, { method: 'GET', path: search === '' ? path : `${path}?${search}`, signal })
    yield* page.items
    cursor = page.next_cursor
  }
}
