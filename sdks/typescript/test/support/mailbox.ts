/** How long a test waits for what must come. Never a measure of speed. */
const PATIENCE_MS = 15_000

interface Reader<T> {
  readonly wants: (item: T) => boolean
  readonly resolve: (item: T) => void
}

/** Things that arrive, for tests that wait for some of them. */
export class Mailbox<T> {
  readonly #items: T[] = []
  readonly #readers: Reader<T>[] = []

  /** What came and nobody took. */
  get left(): readonly T[] {
    return this.#items
  }

  put(item: T): void {
    const at = this.#readers.findIndex(({ wants }) => wants(item))
    const [reader] = at < 0 ? [] : this.#readers.splice(at, 1)
    if (reader === undefined) {
      this.#items.push(item)
    } else {
      reader.resolve(item)
    }
  }

  /** Takes the first thing that fits; rejects when none comes. */
  async take(what: string, wants: (item: T) => boolean = () => true): Promise<T> {
    const at = this.#items.findIndex(wants)
    const [item] = at < 0 ? [] : this.#items.splice(at, 1)
    if (item !== undefined) {
      return item
    }
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        reject(new Error(`${what} did not come; there is ${JSON.stringify(this.#items, printable)}`))
      }, PATIENCE_MS)
      this.#readers.push({
        wants,
        resolve: (found) => {
          clearTimeout(timer)
          resolve(found)
        },
      })
    })
  }
}

function printable(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? String(value) : value
}
