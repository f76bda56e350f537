import type { TaskInput } from '../context.js'

/** So many inputs may wait for a handler that does not read them. */
const MAX_WAITING = 1_024

/** So many ids are remembered, to tell repetitions. */
const MAX_REMEMBERED = 4_096

type Load = () => Promise<TaskInput>

/** The messages that reach a running task, read one by one. */
export class InputQueue implements AsyncIterable<TaskInput> {
  readonly #signal: AbortSignal
  readonly #waiting: Load[] = []
  readonly #seen = new Set<string>()
  readonly #sleepers: (() => void)[] = []

  constructor(signal: AbortSignal) {
    this.#signal = signal
    signal.addEventListener('abort', () => this.#wake(), { once: true })
  }

  /**
   * Adds an input; one whose id came before is a repetition after a reconnect
   * and is left out. False when too many wait.
   */
  push(id: string, load: Load): boolean {
    if (id !== '' && this.#seen.has(id)) {
      return true
    }
    if (this.#waiting.length >= MAX_WAITING) {
      return false
    }
    this.#remember(id)
    this.#waiting.push(load)
    this.#wake()
    return true
  }

  async *[Symbol.asyncIterator](): AsyncIterator<TaskInput> {
    for (;;) {
      this.#signal.throwIfAborted()
      const load = this.#waiting.shift()
      if (load === undefined) {
        await new Promise<void>((resolve) => this.#sleepers.push(resolve))
      } else {
        yield await load()
      }
    }
  }

  #remember(id: string): void {
    this.#seen.add(id)
    const [oldest] = this.#seen
    if (this.#seen.size > MAX_REMEMBERED && oldest !== undefined) {
      this.#seen.delete(oldest)
    }
  }

  #wake(): void {
    for (const resolve of this.#sleepers.splice(0)) {
      resolve()
    }
  }
}
