/** Something that supports a result and that a person can look at. */
export interface Evidence {
  /** What sort of evidence, e.g. `note`, `quote`, `source`. */
  readonly kind: string
  /** One line for people. */
  readonly summary: string
  /** Any JSON value. */
  readonly detail?: unknown
  /** A file that goes with it; stored by digest. */
  readonly attachment?: { readonly bytes: Uint8Array; readonly mediaType: string }
}

/** An estimate with its origin. */
export interface Confidence {
  /** From 0 to 1. */
  readonly value: number
  /** Who says so, e.g. `self`, `model`, `checker`. */
  readonly source: string
}

/** What a task consumed, as the agent counts it. Shown to people, never billed. */
export interface Usage {
  readonly inputTokens?: number
  readonly outputTokens?: number
  /** In millionths of the currency's minor unit. */
  readonly costMicroMinor?: number
  /** ISO 4217, e.g. `EUR`. */
  readonly currency?: string
}

/** What {@link result} adds to a value. */
export interface ResultOptions {
  /** From 0 to 1; a bare number has the source `self`. Absent means unknown: not 0, not 1. */
  readonly confidence?: number | Confidence
  readonly evidence?: readonly Evidence[]
  readonly usage?: Usage
}

/** A value with what supports it; made by {@link result}. */
export class Result<T> {
  readonly value: T
  readonly confidence: Confidence | undefined
  readonly evidence: readonly Evidence[]
  readonly usage: Usage | undefined

  /** @internal */
  constructor(value: T, options: ResultOptions) {
    this.value = value
    this.confidence = confidenceOf(options.confidence)
    this.evidence = options.evidence ?? []
    this.usage = options.usage
  }
}

/**
 * Wraps a handler's value with a confidence, evidence or usage.
 *
 * @throws RangeError when the confidence is not a number from 0 to 1.
 */
export function result<T>(value: T, options: ResultOptions = {}): Result<T> {
  return new Result(value, options)
}

function confidenceOf(confidence: number | Confidence | undefined): Confidence | undefined {
  if (confidence === undefined) {
    return undefined
  }
  const full = typeof confidence === 'number' ? { value: confidence, source: 'self' } : confidence
  if (!(full.value >= 0 && full.value <= 1)) {
    throw new RangeError(`confidence must be a number from 0 to 1, not ${full.value}`)
  }
  return full
}
