/**
 * How many more tasks the server may send. What was granted and not used yet,
 * plus what runs, never exceeds the limit.
 */
export class CreditLedger {
  readonly #concurrency: number
  #limit: number
  #granted = 0

  constructor(concurrency: number) {
    this.#concurrency = concurrency
    this.#limit = concurrency
  }

  /** What Hello states in full; grants of an earlier session are void. */
  restate(busy: number): number {
    this.#granted = Math.max(0, this.#limit - busy)
    return this.#granted
  }

  /** Takes note of the server's own cap. */
  cap(maxCredit: number): void {
    this.#limit = Math.min(this.#concurrency, maxCredit)
    this.#granted = Math.min(this.#granted, this.#limit)
  }

  /** A task came. */
  spend(): void {
    this.#granted = Math.max(0, this.#granted - 1)
  }

  /** What may be granted now beyond what was; counts as granted from here on. */
  take(busy: number): number {
    const owed = Math.max(0, this.#limit - this.#granted - busy)
    this.#granted += owed
    return owed
  }
}
