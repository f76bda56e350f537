import { messageOf, TaskError } from '../errors.js'
import type { BlobRef, TaskRef } from '../gen/parallax/v1/common_pb.js'
import type { Evidence, Result } from '../result.js'
import { putBlob } from './blobs.js'
import type { Outcome } from './execution.js'
import type { Session } from './session.js'
import { frameBytes, keyOf, type UpFrame } from './wire.js'

/** A failure's message is for people; a longer one would crowd the frame. */
const MAX_MESSAGE_CHARS = 4_000

/** An outcome that the server has not acknowledged yet. */
export class Settled {
  readonly ref: TaskRef
  readonly key: string
  /** The highest Partial.seq of the task. */
  readonly lastSeq: number
  /** The task's place is given back with the outcome, or by the Hello that lists it as finished. */
  holdsPlace = true
  /** Somebody works on the delivery; `again` asks for one more round. */
  delivering = false
  again = false
  #content: Result<unknown> | TaskError
  #json: Uint8Array | undefined
  #details: readonly Uint8Array[] = []
  /** What was uploaded already, by what it stands for; a resend uses it again. */
  readonly #stored = new Map<Evidence | 'value', BlobRef>()

  constructor(ref: TaskRef, outcome: Exclude<Outcome, { kind: 'stopped' }>, lastSeq: number) {
    this.ref = ref
    this.key = keyOf(ref)
    this.lastSeq = lastSeq
    this.#content = outcome.kind === 'failed' ? outcome.error : outcome.result
    if (outcome.kind === 'value') {
      this.#encode(outcome.result)
    }
  }

  /** Gives up the value: the caller is told why in its place. */
  replaceByFailure(error: TaskError): void {
    this.#content = error
    this.#json = undefined
    this.#stored.clear()
  }

  /** What it holds in memory, about. */
  get bytes(): number {
    return this.#json?.byteLength ?? 0
  }

  /**
   * The frame to send, without credit. Uploads what does not fit inline, and
   * rejects with the gRPC error where that fails.
   */
  async frame(session: Session): Promise<UpFrame> {
    if (this.#content instanceof TaskError) {
      return this.#failed(this.#content)
    }
    const { maxBlobBytes, maxFrameBytes } = session.limits
    if (this.bytes > maxBlobBytes) {
      this.replaceByFailure(tooLarge(`the result has ${this.bytes} bytes of JSON; the server takes ${maxBlobBytes}`))
      return this.frame(session)
    }
    const frame = await this.#result(session, this.#content)
    const size = frameBytes(frame)
    if (size > maxFrameBytes) {
      this.replaceByFailure(tooLarge(`the result and its evidence make ${size} bytes; a frame has ${maxFrameBytes}`))
      return this.frame(session)
    }
    return frame
  }

  #encode(value: Result<unknown>): void {
    try {
      this.#json = encode(value.value)
      this.#details = value.evidence.map(({ detail }) => (detail === undefined ? new Uint8Array() : encode(detail)))
    } catch (error) {
      this.replaceByFailure(new TaskError('internal', `the handler's result is not JSON: ${messageOf(error)}`))
    }
  }

  async #result(session: Session, content: Result<unknown>): Promise<UpFrame> {
    const json = this.#json ?? Buffer.from('null')
    const inline = json.byteLength <= session.limits.maxInlineBytes
    const value = inline
      ? { case: 'json' as const, value: json }
      : { case: 'blob' as const, value: await this.#store(session, 'value', json, 'application/json') }
    const evidence = await Promise.all(content.evidence.map((one, at) => this.#evidence(session, one, at)))
    const { confidence, usage } = content
    return {
      case: 'result',
      value: {
        ref: this.ref,
        value: { content: value },
        evidence,
        ...(confidence && { confidence: { ppm: Math.round(confidence.value * 1_000_000), source: confidence.source } }),
        ...(usage && {
          usage: {
            inputTokens: count(usage.inputTokens),
            outputTokens: count(usage.outputTokens),
            costMicroMinor: count(usage.costMicroMinor),
            currency: usage.currency ?? '',
          },
        }),
      },
    }
  }

  async #evidence(session: Session, one: Evidence, at: number) {
    const { kind, summary, attachment } = one
    const detailJson = this.#details[at] ?? new Uint8Array()
    const blob = attachment && (await this.#store(session, one, attachment.bytes, attachment.mediaType))
    return { kind, summary, detailJson, ...(blob && { blob }) }
  }

  async #store(session: Session, what: Evidence | 'value', bytes: Uint8Array, mediaType: string): Promise<BlobRef> {
    const stored = this.#stored.get(what) ?? (await putBlob(session.channel, this.ref, bytes, mediaType))
    this.#stored.set(what, stored)
    return stored
  }

  #failed(error: TaskError): UpFrame {
    return {
      case: 'failed',
      value: {
        ref: this.ref,
        code: error.code,
        message: error.message.slice(0, MAX_MESSAGE_CHARS),
        retryable: error.retryable,
        retryAfterMs: count(error.retryAfterMs),
      },
    }
  }
}

/** What JSON has no word for, such as `undefined`, becomes null. */
function encode(value: unknown): Uint8Array {
  return Buffer.from(JSON.stringify(value) ?? 'null', 'utf8')
}

function tooLarge(message: string): TaskError {
  return new TaskError('result_too_large', message)
}

function count(value: number | undefined): bigint {
  return BigInt(Math.max(0, Math.round(value ?? 0)))
}
