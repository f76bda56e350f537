/** So many chunks may wait for room; a handler that awaits each call has one. */
const MAX_WAITING = 1_024
/** So many sent chunks are kept for a reconnect, whatever their size. */
const MAX_KEPT = 4_096

interface Waiting {
  readonly chunk: Uint8Array
  readonly resolve: () => void
  readonly reject: (reason: unknown) => void
}

interface Kept {
  readonly seq: number
  readonly chunk: Uint8Array
}

/** Sends one Partial; false when there is no connection. */
export type TransmitPartial = (seq: number, chunk: Uint8Array) => boolean

/**
 * A task's pieces of result on their way up: numbered from 1, held back by the
 * server's byte window, and kept for as long as a reconnect may ask for them.
 */
export class PartialStream {
  readonly #transmit: TransmitPartial
  readonly #waiting: Waiting[] = []
  #kept: Kept[] = []
  #keptBytes = 0
  #lastSeq = 0
  #window = 0
  /** Bytes that may be sent now. */
  #room = 0
  #attached = false
  readonly #onEmpty: (() => void)[] = []
  #overflow: Error | undefined
  #closed: { readonly reason: unknown } | undefined

  constructor(transmit: TransmitPartial) {
    this.#transmit = transmit
  }

  /** The highest seq that was sent; 0 when none was. */
  get lastSeq(): number {
    return this.#lastSeq
  }

  /** Resolves when the chunk was sent; rejects when the stream closes first. */
  write(chunk: Uint8Array): Promise<void> {
    const pieces = Array.from(this.#pieces(chunk), (piece) => this.#enqueue(piece))
    const sent = Promise.all(pieces).then(() => undefined)
    // A handler that does not await must not bring the process down.
    sent.catch(() => undefined)
    return sent
  }

  /**
   * Resolves when nothing waits any more, be it sent or given up.
   *
   * @throws Error when more chunks were written than may wait.
   */
  async drained(): Promise<void> {
    if (this.#waiting.length > 0) {
      await new Promise<void>((resolve) => this.#onEmpty.push(resolve))
    }
    if (this.#overflow !== undefined) {
      throw this.#overflow
    }
  }

  /** The server made room. */
  credit(bytes: number): void {
    this.#room += bytes
    this.#pump()
  }

  /** A connection is there: the window starts anew, and what came after `afterSeq` is sent again. */
  resume(window: number, afterSeq: number): void {
    this.#window = window
    this.#room = window
    this.#attached = true
    for (const { seq, chunk } of this.#kept) {
      if (seq > afterSeq && this.#transmit(seq, chunk)) {
        this.#room -= chunk.byteLength
      }
    }
    this.#pump()
  }

  /** The connection is gone; chunks wait for the next. */
  suspend(): void {
    this.#attached = false
  }

  /** Nothing is sent from here on; waiting and later writes reject. */
  close(reason: unknown): void {
    this.#closed ??= { reason }
    for (const { reject } of this.#waiting.splice(0)) {
      reject(reason)
    }
    this.#emptied()
  }

  /**
   * Parts of at most half a window: the server makes room again once half of it
   * is used, so a larger one could wait for ever behind a small one.
   */
  *#pieces(chunk: Uint8Array): Generator<Uint8Array> {
    const size = Math.max(1, Math.floor(this.#window / 2))
    yield chunk.slice(0, size)
    for (let at = size; at < chunk.byteLength; at += size) {
      yield chunk.slice(at, at + size)
    }
  }

  #enqueue(chunk: Uint8Array): Promise<void> {
    if (this.#closed !== undefined) {
      return Promise.reject(this.#closed.reason)
    }
    const sent = new Promise<void>((resolve, reject) => this.#waiting.push({ chunk, resolve, reject }))
    if (this.#waiting.length > MAX_WAITING) {
      this.#overflow = new Error(`more than ${MAX_WAITING} partials wait to be sent: await ctx.partial()`)
      this.close(this.#overflow)
    }
    this.#pump()
    return sent
  }

  #pump(): void {
    while (this.#attached && this.#closed === undefined) {
      const next = this.#waiting[0]
      if (next === undefined) {
        return this.#emptied()
      }
      if (next.chunk.byteLength > this.#room) {
        return
      }
      if (!this.#transmit(this.#lastSeq + 1, next.chunk)) {
        this.#attached = false
        return
      }
      this.#waiting.shift()
      this.#room -= next.chunk.byteLength
      this.#lastSeq += 1
      this.#keep({ seq: this.#lastSeq, chunk: next.chunk })
      next.resolve()
    }
  }

  #emptied(): void {
    for (const resolve of this.#onEmpty.splice(0)) {
      resolve()
    }
  }

  /**
   * The server has granted room for all but the last window of bytes, so it
   * has those and will not ask for them again.
   */
  #keep(kept: Kept): void {
    this.#kept.push(kept)
    this.#keptBytes += kept.chunk.byteLength
    let drop = 0
    while (this.#keptBytes > this.#window || this.#kept.length - drop > MAX_KEPT) {
      this.#keptBytes -= this.#kept[drop]?.chunk.byteLength ?? 0
      drop += 1
    }
    if (drop > 0) {
      this.#kept = this.#kept.slice(drop)
    }
  }
}
