import { createHash } from 'node:crypto'

import { create, type MessageInitShape } from '@bufbuild/protobuf'
import {
  type handleBidiStreamingCall,
  type handleClientStreamingCall,
  type handleServerStreamingCall,
  type Metadata,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServiceError,
  status,
} from '@grpc/grpc-js'

import {
  type AgentDown,
  AgentDownSchema,
  type AgentUp,
  type Hello,
  type LimitsSchema,
  type Task,
  TaskSchema,
  type VerdictSchema,
} from '../../src/gen/parallax/v1/agents_pb.js'
import { BlobChunkSchema, type GetBlobRequest, type PutBlobHeader, type PutBlobRequest } from '../../src/gen/parallax/v1/blobs_pb.js'
import { type BlobRef, BlobRefSchema, PayloadSchema, type TaskRef, TaskRefSchema } from '../../src/gen/parallax/v1/common_pb.js'
import { GET_BLOB, PUT_BLOB, SESSION } from '../../src/runtime/wire.js'
import { Mailbox } from './mailbox.js'

type Up = NonNullable<AgentUp['frame']>
type UpCase = NonNullable<Up['case']>
type UpValue<C extends UpCase> = Extract<Up, { case: C }>['value']
type Down = NonNullable<MessageInitShape<typeof AgentDownSchema>['frame']>
type Limits = MessageInitShape<typeof LimitsSchema>

/** A real gRPC server on loopback whose every answer is the test's. */
export class ScriptedServer {
  readonly arrivals = new Mailbox<Arrival>()
  readonly blobs = new Map<string, Buffer>()
  readonly uploads: PutBlobHeader[] = []
  /** Fails so many of the next Puts with UNAVAILABLE. */
  failingPuts = 0
  #server = new Server()
  #port = 0

  static async start(): Promise<ScriptedServer> {
    const server = new ScriptedServer()
    await server.rise()
    return server
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`
  }

  /** Listens, on the same port where it did so before. */
  async rise(): Promise<void> {
    this.#server = new Server()
    const session: handleBidiStreamingCall<AgentUp, AgentDown> = (call) => this.arrivals.put(new Arrival(call))
    this.#server.addService({ Session: SESSION }, { Session: session })
    this.#server.addService({ Put: PUT_BLOB, Get: GET_BLOB }, { Put: this.#put(), Get: this.#get() })
    this.#port = await new Promise<number>((resolve, reject) => {
      this.#server.bindAsync(`127.0.0.1:${this.#port}`, ServerCredentials.createInsecure(), (error, port) =>
        error === null ? resolve(port) : reject(error),
      )
    })
  }

  /** Breaks every connection and stops listening. */
  die(): void {
    this.#server.forceShutdown()
  }

  /** Waits for the next session and lets it in. */
  async connect(options: WelcomeOptions = {}): Promise<Arrival> {
    const arrival = await this.arrivals.take('a session')
    await arrival.welcome(options)
    return arrival
  }

  keep(bytes: Buffer): BlobRef {
    const digest = `sha256:${createHash('sha256').update(bytes).digest('hex')}`
    this.blobs.set(digest, bytes)
    return create(BlobRefSchema, { digest, sizeBytes: BigInt(bytes.byteLength), mediaType: 'application/json' })
  }

  #put(): handleClientStreamingCall<PutBlobRequest, BlobRef> {
    return (call, respond) => {
      const chunks: Uint8Array[] = []
      call.on('data', ({ part }: PutBlobRequest) => {
        if (part.case === 'header') {
          this.uploads.push(part.value)
        } else if (part.case === 'chunk') {
          chunks.push(part.value)
        }
      })
      call.on('end', () => {
        if (this.failingPuts > 0) {
          this.failingPuts -= 1
          return respond({ code: status.UNAVAILABLE, details: 'not now' })
        }
        respond(null, this.keep(Buffer.concat(chunks)))
      })
    }
  }

  #get(): handleServerStreamingCall<GetBlobRequest, { $typeName: 'parallax.v1.BlobChunk'; data: Uint8Array }> {
    return (call) => {
      const bytes = this.blobs.get(call.request.digest)
      if (bytes === undefined) {
        call.emit('error', { code: status.NOT_FOUND, details: 'no such blob' })
        return
      }
      for (let at = 0; at < bytes.byteLength; at += 65_536) {
        call.write(create(BlobChunkSchema, { data: bytes.subarray(at, at + 65_536) }))
      }
      call.end()
    }
  }
}

/** What a Welcome says. */
export interface WelcomeOptions {
  readonly ttlMs?: number
  readonly limits?: Limits
  readonly verdicts?: MessageInitShape<typeof VerdictSchema>[]
}

/** One session, seen from the server. */
export class Arrival {
  readonly metadata: Metadata
  readonly frames = new Mailbox<Up>()
  readonly ended: Promise<void>
  #call: ServerDuplexStream<AgentUp, AgentDown>
  #hello: Hello | undefined
  #tasks = 0

  constructor(call: ServerDuplexStream<AgentUp, AgentDown>) {
    this.#call = call
    this.metadata = call.metadata
    call.on('data', (message: AgentUp) => this.frames.put(message.frame as Up))
    this.ended = new Promise((resolve) => call.on('end', resolve).on('cancelled', resolve).on('close', resolve))
  }

  get hello(): Hello {
    if (this.#hello === undefined) {
      throw new Error('the agent was not welcomed yet')
    }
    return this.#hello
  }

  async awaitHello(): Promise<Hello> {
    this.#hello ??= await this.next('hello')
    return this.#hello
  }

  async welcome({ ttlMs = 30_000, limits, verdicts = [] }: WelcomeOptions = {}): Promise<void> {
    await this.awaitHello()
    this.send({
      case: 'welcome',
      value: {
        sessionId: 'ses_test',
        leaseEpoch: 7n,
        ttlMs: BigInt(ttlMs),
        protoVersion: 1,
        limits: { maxFrameBytes: 1 << 20, maxInlineBytes: 1 << 18, partialWindowBytes: 1 << 18, maxCredit: 1024, ...limits },
        verdicts,
      },
    })
  }

  send(frame: Down): void {
    this.#call.write(create(AgentDownSchema, { frame }))
  }

  /** Gives a task with JSON input. */
  give(capability: string, input: unknown, more: Partial<Task> = {}): TaskRef {
    this.#tasks += 1
    const ref = create(TaskRefSchema, { taskId: `tsk_${this.#tasks}`, attempt: 1, run: 'exe_1', step: 's' })
    const json = Buffer.from(JSON.stringify(input))
    const payload = create(PayloadSchema, { content: { case: 'json', value: json } })
    this.send({ case: 'task', value: Object.assign(create(TaskSchema, { ref, capability, input: payload }), more) })
    return ref
  }

  /** Waits for the next frame of a kind and takes it; others stay. */
  async next<C extends UpCase>(kind: C): Promise<UpValue<C>> {
    const frame = await this.frames.take(kind, (one) => one.case === kind)
    return frame.value as UpValue<C>
  }

  /** A Ping's round trip: whatever the agent sent before has come by then. */
  async settle(): Promise<void> {
    this.send({ case: 'ping', value: { nonce: 2n ** 60n } })
    await this.next('pong')
  }

  /** The value of the next result, which it acknowledges. */
  async value(): Promise<unknown> {
    const result = await this.next('result')
    this.acknowledge(result.ref)
    const content = result.value?.content
    return content?.case === 'json' ? JSON.parse(Buffer.from(content.value).toString('utf8')) : content
  }

  acknowledge(ref: TaskRef | undefined): void {
    this.send({ case: 'resultAck', value: ref === undefined ? {} : { ref } })
  }

  /** Ends the stream with OK. */
  close(): void {
    this.#call.end()
  }

  /** Ends the stream with a status. */
  fail(code: status, details: string, metadata?: Metadata): void {
    const error: Partial<ServiceError> = { code, details, ...(metadata && { metadata }) }
    this.#call.emit('error', error)
  }
}
