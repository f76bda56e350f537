import { status } from '@grpc/grpc-js'

import type { Capability } from '../capability.js'
import { messageOf, TaskError } from '../errors.js'
import {
  type Cancel,
  CancelAck_Outcome,
  InventoryItem_State,
  type Task,
  type Verdict,
  type Welcome,
} from '../gen/parallax/v1/agents_pb.js'
import type { BlobRef, TaskRef } from '../gen/parallax/v1/common_pb.js'
import type { Logger } from '../logger.js'
import { jitteredDelayMs, pause } from './backoff.js'
import { getBlob } from './blobs.js'
import { CreditLedger } from './credit.js'
import { Execution, type Outcome, type Uplink } from './execution.js'
import { Gate } from './gate.js'
import type { Session } from './session.js'
import { Settled } from './settled.js'
import { type DownFrame, keyOf, type UpFrame } from './wire.js'

/** No further credit is granted while so many outcomes, or bytes of them, wait for their ResultAck. */
const MAX_UNACKED = 1_024
const MAX_UNACKED_BYTES = 64 * 1024 * 1024
/** So many ended tasks are remembered, to answer a late cancel truthfully. */
const MAX_ENDED = 1_024
/** Tries at one blob before the task fails of it. */
const BLOB_TRIES = 5
/** Codes after which a further try at a blob can succeed. */
const TRANSIENT: ReadonlySet<unknown> = new Set([
  status.UNAVAILABLE,
  status.DEADLINE_EXCEEDED,
  status.CANCELLED,
  status.ABORTED,
  status.RESOURCE_EXHAUSTED,
  status.UNAUTHENTICATED,
])

/** Every task that this instance knows of. It outlives connections. */
export class TaskTable implements Uplink {
  readonly #capabilities: ReadonlyMap<string, Capability>
  readonly #gates = new Map<string, Gate>()
  readonly #log: Logger
  readonly #credit: CreditLedger
  readonly #running = new Map<string, Execution>()
  readonly #settled = new Map<string, Settled>()
  readonly #ended = new Map<string, CancelAck_Outcome>()
  /** Cancelled tasks that stopped while no connection could carry the acknowledgement. */
  readonly #stopped = new Map<string, { readonly ref: TaskRef; readonly lastSeq: number }>()
  /** Runs that go on, forgotten ones included: each takes a place. */
  readonly #busy = new Set<Execution>()
  readonly #waiting: (() => void)[] = []
  #session: Session | undefined
  #draining = false
  /** Called when nothing runs and nothing waits for a ResultAck. */
  onIdle: () => void = () => undefined

  constructor(capabilities: ReadonlyMap<string, Capability>, concurrency: number, log: Logger) {
    this.#capabilities = capabilities
    this.#credit = new CreditLedger(concurrency)
    this.#log = log
    for (const { name, options } of capabilities.values()) {
      this.#gates.set(name, new Gate(options.maxConcurrency ?? 0))
    }
  }

  get inflight(): number {
    return this.#running.size
  }

  get idle(): boolean {
    return this.#busy.size === 0 && this.#settled.size === 0
  }

  /** Handlers that have not ended, whether or not anybody waits for them. */
  get busy(): number {
    return this.#busy.size
  }

  /** What the next Hello says about tasks. */
  hello() {
    const item = (state: InventoryItem_State) => (task: { ref: TaskRef; lastSeq: number }) => ({
      ref: task.ref,
      state,
      lastUpSeq: BigInt(task.lastSeq),
    })
    const inventory = [
      ...[...this.#running.values()].map(item(InventoryItem_State.RUNNING)),
      // The server believes that these run; left out, they would be handed out anew.
      ...[...this.#stopped.values()].map(item(InventoryItem_State.RUNNING)),
      ...[...this.#settled.values()].map(item(InventoryItem_State.FINISHED)),
    ]
    for (const settled of this.#settled.values()) {
      settled.holdsPlace = false
    }
    const credit = this.#credit.restate(this.#places())
    return { credit: this.#draining ? 0 : credit, inventory }
  }

  /** A connection is there: follows the server's verdicts. */
  attach(session: Session, welcome: Welcome): void {
    this.#session = session
    this.#credit.cap(session.limits.maxCredit)
    for (const verdict of welcome.verdicts) {
      this.#follow(session, verdict)
    }
    for (const wake of this.#waiting.splice(0)) {
      wake()
    }
    this.flushProgress()
    this.#grant()
  }

  /** The connection is gone; tasks go on. */
  detach(): void {
    this.#session = undefined
    for (const { partials } of this.#running.values()) {
      partials.suspend()
    }
  }

  /** Takes no further tasks. */
  drain(): void {
    this.#draining = true
  }

  /** Aborts what still runs. */
  abortAll(message: string): void {
    for (const execution of this.#busy) {
      execution.abort('stopping', message)
    }
  }

  receive(frame: DownFrame): void {
    switch (frame.case) {
      case 'task':
        return this.#task(frame.value)
      case 'resultAck':
        return this.#acknowledged(frame.value.ref)
      case 'cancel':
        return this.#cancel(frame.value)
      case 'input':
        return this.#find(frame.value.ref)?.input(frame.value)
      case 'partialCredit':
        return this.#find(frame.value.ref)?.partials.credit(frame.value.bytes)
      default:
        // A frame of a later minor version; v1 is append-only.
        this.#log.debug('a frame of an unknown kind came')
    }
  }

  flushProgress(): void {
    for (const execution of this.#running.values()) {
      execution.flushProgress()
    }
  }

  send(frame: UpFrame): boolean {
    return this.#session?.send(frame) ?? false
  }

  congested(): boolean {
    return this.#session?.congested ?? true
  }

  async fetch(ref: TaskRef, blob: BlobRef, signal: AbortSignal): Promise<Uint8Array> {
    for (let tries = 1; ; tries += 1) {
      const session = await this.#attached(signal)
      if (blob.sizeBytes > session.limits.maxBlobBytes) {
        throw new TaskError('input_unavailable', `the input has ${blob.sizeBytes} bytes, more than the server's own limit`)
      }
      try {
        return await getBlob(session.channel, ref, blob, signal)
      } catch (error) {
        signal.throwIfAborted()
        if (tries >= BLOB_TRIES || !isStatus(error) || !TRANSIENT.has(error.code)) {
          throw new TaskError('input_unavailable', `cannot fetch the input: ${messageOf(error)}`, {
            retryable: true,
            cause: error,
          })
        }
        await pause(jitteredDelayMs(tries - 1, Math.random()), signal)
      }
    }
  }

  #task(task: Task): void {
    this.#credit.spend()
    const { ref } = task
    if (ref === undefined) {
      return this.#grant()
    }
    const key = keyOf(ref)
    const settled = this.#settled.get(key)
    if (settled !== undefined || this.#running.has(key)) {
      // A repetition: the answer is the same.
      this.#grant()
      return settled === undefined ? this.#accept(ref) : void this.#deliver(settled)
    }
    const capability = this.#capabilities.get(task.capability)
    const gate = this.#gates.get(task.capability)
    if (capability === undefined || gate === undefined) {
      const error = new TaskError('unknown_capability', `this agent has no capability ${JSON.stringify(task.capability)}`)
      return this.#settle(new Settled(ref, { kind: 'failed', error }, 0))
    }
    this.#accept(ref)
    const execution = new Execution(task, ref, capability, this, this.#log)
    execution.partials.resume(this.#session?.limits.partialWindowBytes ?? 0, 0)
    this.#running.set(key, execution)
    this.#busy.add(execution)
    void execution.run(gate).then((outcome) => this.#over(execution, outcome))
  }

  #accept(ref: TaskRef): void {
    this.send({ case: 'accepted', value: { ref } })
  }

  #over(execution: Execution, outcome: Outcome): void {
    this.#busy.delete(execution)
    this.#running.delete(execution.key)
    if (execution.fate === 'forgotten') {
      this.#end(execution.key, CancelAck_Outcome.STOPPED)
    } else if (outcome.kind === 'stopped' || execution.fate === 'unwanted') {
      this.#end(execution.key, CancelAck_Outcome.STOPPED)
      if (!this.#acknowledgeCancel(execution.ref, CancelAck_Outcome.STOPPED)) {
        this.#stopped.set(execution.key, { ref: execution.ref, lastSeq: execution.lastSeq })
      }
    } else {
      if (execution.fate === 'cancelled') {
        this.#acknowledgeCancel(execution.ref, CancelAck_Outcome.TOO_LATE)
      }
      return this.#settle(new Settled(execution.ref, outcome, execution.lastSeq))
    }
    this.#grant()
  }

  #settle(settled: Settled): void {
    this.#settled.set(settled.key, settled)
    void this.#deliver(settled)
  }

  /** Sends an outcome, uploading first what is too large. Never rejects. */
  async #deliver(settled: Settled): Promise<void> {
    if (settled.delivering) {
      settled.again = true
      return
    }
    settled.delivering = true
    do {
      settled.again = false
      await this.#tryDeliver(settled)
    } while (settled.again)
    settled.delivering = false
  }

  async #tryDeliver(settled: Settled): Promise<void> {
    const session = this.#session
    for (let tries = 1; session !== undefined && session === this.#session; tries += 1) {
      try {
        const frame = await settled.frame(session)
        // A later connection asks by its own verdict.
        if (session === this.#session && this.#settled.has(settled.key)) {
          this.#sendOutcome(session, settled, frame)
        }
        return
      } catch (error) {
        if (session === this.#session) {
          await this.#deliveryFailed(settled, error, tries)
        }
      }
    }
  }

  #sendOutcome(session: Session, settled: Settled, frame: UpFrame): void {
    settled.holdsPlace = false
    const credit = this.#owed()
    if (frame.case === 'result') {
      session.send({ case: 'result', value: { ...frame.value, credit } })
    } else if (frame.case === 'failed') {
      session.send({ case: 'failed', value: { ...frame.value, credit } })
    }
  }

  async #deliveryFailed(settled: Settled, error: unknown, tries: number): Promise<void> {
    this.#log.warn('a result could not be sent', { task: settled.ref.taskId, tries, error: messageOf(error) })
    if (!isStatus(error)) {
      // Not the network: a field of the result is not what its type says.
      settled.replaceByFailure(new TaskError('internal', `the result cannot be sent: ${messageOf(error)}`))
      return
    }
    if (tries >= BLOB_TRIES || !TRANSIENT.has(error.code)) {
      settled.replaceByFailure(
        new TaskError('result_not_stored', `the result could not be uploaded: ${messageOf(error)}`, { retryable: true }),
      )
      return
    }
    await pause(jitteredDelayMs(tries - 1, Math.random()), new AbortController().signal)
  }

  #acknowledged(ref: TaskRef | undefined): void {
    if (ref !== undefined && this.#settled.delete(keyOf(ref))) {
      this.#end(keyOf(ref), CancelAck_Outcome.TOO_LATE)
      this.#grant()
    }
  }

  #cancel({ ref, reason }: Cancel): void {
    if (ref === undefined) {
      return
    }
    const execution = this.#running.get(keyOf(ref))
    if (execution === undefined) {
      const known = this.#settled.has(keyOf(ref)) ? CancelAck_Outcome.TOO_LATE : this.#ended.get(keyOf(ref))
      this.#acknowledgeCancel(ref, known ?? CancelAck_Outcome.UNKNOWN)
      return
    }
    // The acknowledgement waits for the handler's end, however long that takes:
    // until then nothing has stopped.
    execution.fate = 'cancelled'
    execution.abort('cancelled', reason || 'the task was cancelled')
  }

  #acknowledgeCancel(ref: TaskRef, outcome: CancelAck_Outcome): boolean {
    return this.send({ case: 'cancelAck', value: { ref, outcome } })
  }

  #follow(session: Session, { ref, verdict }: Verdict): void {
    if (ref === undefined) {
      return
    }
    const key = keyOf(ref)
    const execution = this.#running.get(key)
    const settled = this.#settled.get(key)
    if (this.#stopped.delete(key) && verdict.case !== 'forget') {
      this.#acknowledgeCancel(ref, CancelAck_Outcome.STOPPED)
      return
    }
    switch (verdict.case) {
      case 'cancel':
        this.#settled.delete(key)
        return this.#cancelByVerdict(execution, verdict.value.reason)
      case 'forget':
        this.#settled.delete(key)
        return this.#forget(execution)
      default: {
        // Keep, SendResult, or none: the task goes on, or its outcome is due.
        const afterSeq = verdict.case === 'keep' ? Number(verdict.value.afterSeq) : (execution?.lastSeq ?? 0)
        execution?.partials.resume(session.limits.partialWindowBytes, afterSeq)
        if (settled !== undefined) {
          void this.#deliver(settled)
        }
      }
    }
  }

  #cancelByVerdict(execution: Execution | undefined, reason: string): void {
    if (execution !== undefined) {
      execution.fate = 'unwanted'
      execution.abort('cancelled', reason || 'nobody waits for the task any more')
    }
  }

  #forget(execution: Execution | undefined): void {
    if (execution !== undefined) {
      execution.fate = 'forgotten'
      this.#running.delete(execution.key)
      execution.abort('cancelled', 'the server does not want the task any more')
    }
  }

  #find(ref: TaskRef | undefined): Execution | undefined {
    return ref === undefined ? undefined : this.#running.get(keyOf(ref))
  }

  #end(key: string, outcome: CancelAck_Outcome): void {
    this.#ended.set(key, outcome)
    const [oldest] = this.#ended.keys()
    if (this.#ended.size > MAX_ENDED && oldest !== undefined) {
      this.#ended.delete(oldest)
    }
  }

  #grant(): void {
    const n = this.#session === undefined ? 0 : this.#owed()
    if (n > 0) {
      this.send({ case: 'credit', value: { n } })
    }
    if (this.idle) {
      this.onIdle()
    }
  }

  #owed(): number {
    let unackedBytes = 0
    for (const { bytes } of this.#settled.values()) {
      unackedBytes += bytes
    }
    const full = this.#settled.size >= MAX_UNACKED || unackedBytes >= MAX_UNACKED_BYTES
    return this.#draining || full ? 0 : this.#credit.take(this.#places())
  }

  /** Tasks that the server counts against the concurrency: it hears of an end by the outcome. */
  #places(): number {
    let places = this.#busy.size
    for (const { holdsPlace } of this.#settled.values()) {
      places += holdsPlace ? 1 : 0
    }
    return places
  }

  /** The present connection, or the next. */
  async #attached(signal: AbortSignal): Promise<Session> {
    for (;;) {
      signal.throwIfAborted()
      if (this.#session !== undefined) {
        return this.#session
      }
      await new Promise<void>((resolve) => {
        this.#waiting.push(resolve)
        signal.addEventListener('abort', () => resolve(), { once: true })
      })
    }
  }
}

/** Whether a call ended with a gRPC status. */
function isStatus(error: unknown): error is Error & { readonly code: number } {
  return error instanceof Error && 'code' in error && typeof error.code === 'number'
}
