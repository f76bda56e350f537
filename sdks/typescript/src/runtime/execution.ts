import type { Capability } from '../capability.js'
import type { TaskContext, TaskInput } from '../context.js'
import { type AbortKind, messageOf, TaskAbortedError, TaskError } from '../errors.js'
import type { Input, Progress, Task } from '../gen/parallax/v1/agents_pb.js'
import type { BlobRef, Payload, TaskRef } from '../gen/parallax/v1/common_pb.js'
import { type Logger, withFields } from '../logger.js'
import { Result, result } from '../result.js'
import type { Gate } from './gate.js'
import { withinTrace } from './trace.js'
import { InputQueue } from './inputs.js'
import { PartialStream } from './partials.js'
import { keyOf, type UpFrame } from './wire.js'

/** setTimeout fires at once beyond this, so such deadlines get no timer: they are 24 days away. */
const MAX_TIMER_MS = 2 ** 31 - 1
/** A progress message is one line for people. */
const MAX_PROGRESS_CHARS = 1_000

/** How a handler's run ended. */
export type Outcome =
  | { readonly kind: 'value'; readonly result: Result<unknown> }
  | { readonly kind: 'failed'; readonly error: TaskError }
  /** Cancelled, and over without a result. */
  | { readonly kind: 'stopped' }

/** What the server does with an outcome. */
export type Fate =
  | 'wanted'
  /** A cancel waits for its acknowledgement; a value that comes all the same is sent. */
  | 'cancelled'
  /** Nobody waits: whatever comes is dropped, and the cancel is acknowledged. */
  | 'unwanted'
  /** The server keeps no trace of the task: whatever comes is dropped in silence. */
  | 'forgotten'

/** The way to the server, whichever connection carries it at the moment. */
export interface Uplink {
  /** False when there is no connection. */
  send(frame: UpFrame): boolean
  congested(): boolean
  /** Waits for a connection where there is none. */
  fetch(ref: TaskRef, blob: BlobRef, signal: AbortSignal): Promise<Uint8Array>
}

/** One attempt at one task, from its acceptance to the end of its handler. */
export class Execution {
  readonly ref: TaskRef
  readonly key: string
  readonly partials: PartialStream
  /** What is to become of the outcome. */
  fate: Fate = 'wanted'
  readonly #task: Task
  readonly #capability: Capability
  readonly #uplink: Uplink
  readonly #log: Logger
  readonly #abort = new AbortController()
  readonly #inputs: InputQueue
  readonly #expiresAt: number | undefined
  #deadline: NodeJS.Timeout | undefined
  #progress: UpFrame | undefined

  constructor(task: Task, ref: TaskRef, capability: Capability, uplink: Uplink, log: Logger) {
    this.#task = task
    this.ref = ref
    this.key = keyOf(ref)
    this.#capability = capability
    this.#uplink = uplink
    this.#log = withFields(log, { task: ref.taskId, attempt: ref.attempt, capability: capability.name })
    this.#inputs = new InputQueue(this.#abort.signal)
    this.partials = new PartialStream((seq, chunk) =>
      uplink.send({ case: 'partial', value: { ref, seq: BigInt(seq), chunk } }),
    )
    const left = timeLeft(task)
    if (left !== undefined) {
      this.#expiresAt = performance.now() + left
      if (left <= MAX_TIMER_MS) {
        this.#deadline = setTimeout(() => this.abort('deadline', 'the deadline passed'), Math.max(0, left))
      }
    }
  }

  /** The highest Partial.seq that was sent. */
  get lastSeq(): number {
    return this.partials.lastSeq
  }

  /** Runs the handler once the gate lets it. Never rejects. */
  async run(gate: Gate): Promise<Outcome> {
    try {
      await gate.enter(this.#abort.signal)
    } catch (error) {
      return this.#failure(error)
    }
    try {
      return { kind: 'value', result: await this.#handle() }
    } catch (error) {
      return this.#failure(error)
    } finally {
      gate.leave()
      clearTimeout(this.#deadline)
      this.partials.close(new Error('the task is over'))
    }
  }

  /** Fires the handler's signal; the first reason stands. */
  abort(kind: AbortKind, message: string): void {
    if (!this.#abort.signal.aborted) {
      const reason = new TaskAbortedError(kind, message)
      this.#abort.abort(reason)
      this.partials.close(reason)
    }
  }

  /** Hands a further message to the handler. */
  input(input: Input): void {
    const load = async (): Promise<TaskInput> => ({ id: input.id, value: await this.#decode(input.value) })
    if (!this.#inputs.push(input.id, load)) {
      this.#log.error('the handler does not read its inputs; one was left out', { input: input.id })
    }
  }

  /** Sends the newest progress that had to wait. */
  flushProgress(): void {
    if (this.#progress !== undefined && !this.#uplink.congested() && this.#uplink.send(this.#progress)) {
      this.#progress = undefined
    }
  }

  async #handle(): Promise<Result<unknown>> {
    const input = await this.#decode(this.#task.input)
    this.#capability.validate(input)
    const context = this.#context()
    const returned = await withinTrace(context.trace, () => this.#capability.handler(input, context))
    if (this.#reason()?.kind === 'deadline') {
      throw this.#reason()
    }
    await this.partials.drained()
    return returned instanceof Result ? returned : result(returned)
  }

  #failure(thrown: unknown): Outcome {
    clearTimeout(this.#deadline)
    const reason = this.#reason()
    switch (reason?.kind) {
      case 'cancelled':
        return { kind: 'stopped' }
      case 'deadline':
        return { kind: 'failed', error: new TaskError('deadline_exceeded', reason.message) }
      case 'stopping':
        return { kind: 'failed', error: new TaskError('agent_stopped', reason.message, { retryable: true }) }
      case undefined:
        if (thrown instanceof TaskError) {
          return { kind: 'failed', error: thrown }
        }
        this.#log.error('the handler threw', { error: thrown instanceof Error ? thrown.stack : String(thrown) })
        return { kind: 'failed', error: new TaskError('internal', messageOf(thrown)) }
    }
  }

  #reason(): TaskAbortedError | undefined {
    return this.#abort.signal.aborted ? (this.#abort.signal.reason as TaskAbortedError) : undefined
  }

  async #decode(payload: Payload | undefined): Promise<unknown> {
    const content = payload?.content
    switch (content?.case) {
      case 'json':
        return parse(content.value)
      case 'blob':
        return parse(await this.#uplink.fetch(this.ref, content.value, this.#abort.signal))
      default:
        return null
    }
  }

  #report(fraction: number | undefined, message: string): void {
    if (this.#abort.signal.aborted) {
      return
    }
    const progress: Pick<Progress, 'message' | 'ppm'> = { message: message.slice(0, MAX_PROGRESS_CHARS) }
    if (fraction !== undefined) {
      progress.ppm = Math.round(Math.min(1, Math.max(0, fraction || 0)) * 1_000_000)
    }
    this.#progress = { case: 'progress', value: { ref: this.ref, ...progress } }
    this.flushProgress()
  }

  #timeLeftMs(): number | undefined {
    return this.#expiresAt === undefined ? undefined : Math.max(0, Math.round(this.#expiresAt - performance.now()))
  }

  #context(): TaskContext {
    const { context, idempotencyKey } = this.#task
    const left = this.#timeLeftMs()
    return {
      taskId: this.ref.taskId,
      attempt: this.ref.attempt,
      run: this.ref.run,
      step: this.ref.step,
      capability: this.#capability.name,
      idempotencyKey,
      signal: this.#abort.signal,
      deadline: left === undefined ? undefined : new Date(Date.now() + left),
      trace: {
        traceparent: context?.traceparent ?? '',
        tracestate: context?.tracestate ?? '',
        baggage: context?.baggage ?? '',
      },
      caller: context?.caller ?? '',
      contextId: context?.contextId ?? '',
      sessionId: context?.sessionId ?? '',
      messageId: context?.messageId ?? '',
      log: this.#log,
      inputs: this.#inputs,
      timeLeftMs: () => this.#timeLeftMs(),
      progress: (fraction, message = '') => this.#report(fraction, message),
      partial: (chunk) => this.partials.write(typeof chunk === 'string' ? Buffer.from(chunk, 'utf8') : chunk),
    }
  }
}

/** What the server measured when it sent the frame counts where clocks differ. */
function timeLeft(task: Task): number | undefined {
  if (task.timeLeftMs > 0n) {
    return Number(task.timeLeftMs)
  }
  return task.deadlineUnixMs > 0n ? Number(task.deadlineUnixMs) - Date.now() : undefined
}

function parse(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch (error) {
    throw new TaskError('invalid_input', `the input is not UTF-8 JSON: ${messageOf(error)}`)
  }
}
