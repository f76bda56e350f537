import { randomUUID } from 'node:crypto'

import { create } from '@bufbuild/protobuf'

import { type Capability, type CapabilityOptions, defineCapability, type Handler } from './capability.js'
import { agentName, type ConnectionOptions, resolveConnection, stopGraceMs } from './config.js'
import { ConfigError } from './errors.js'
import { CapabilitySchema, SdkSchema } from './gen/parallax/v1/agents_pb.js'
import { type Logger, stderrLogger } from './logger.js'
import { Supervisor } from './runtime/supervisor.js'
import { TaskTable } from './runtime/tasks.js'
import { PROTO_VERSION } from './runtime/wire.js'
import { VERSION } from './version.js'

/** Tasks at once, unless the agent says otherwise. */
const DEFAULT_CONCURRENCY = 16
/** What handlers that outlived the grace period may still hold the process for, in milliseconds. */
const EXIT_PATIENCE_MS = 1_000

/** What an agent is. Everything has a default, from the environment of a hosted agent. */
export interface AgentOptions extends ConnectionOptions {
  /** Default: `PARALLAX_AGENT_NAME`. */
  readonly name?: string
  /** At most this many tasks at once, over all capabilities. Default: 16. */
  readonly concurrency?: number
  /** For people and placement; shown in the registry. */
  readonly labels?: Readonly<Record<string, string>>
  /** How long tasks may go on once the agent is to stop, in milliseconds. Default: `PARALLAX_STOP_GRACE_MS`, else 10 000. */
  readonly stopGraceMs?: number
  /** Default: logfmt lines on stderr. */
  readonly logger?: Logger
}

/** How {@link Agent.run} behaves. */
export interface RunOptions {
  /** Stops the agent gracefully, as SIGTERM does. */
  readonly signal?: AbortSignal
  /** Whether SIGTERM and SIGINT stop the agent; a second one stops it at once. Default: true. */
  readonly handleSignals?: boolean
  /** Called at every Welcome: at the start and after each reconnect. */
  readonly onConnected?: () => void
}

/** An agent: a name and what it can do. */
export class Agent {
  readonly name: string
  readonly #options: AgentOptions
  readonly #capabilities = new Map<string, Capability>()
  #running = false

  /** @throws ConfigError when the agent has no name, or a setting is out of range. */
  constructor(options: AgentOptions = {}) {
    this.name = agentName(options.name)
    const { concurrency = DEFAULT_CONCURRENCY } = options
    if (!Number.isInteger(concurrency) || concurrency < 1) {
      throw new ConfigError(`concurrency must be a whole number from 1, not ${concurrency}`)
    }
    this.#options = { ...options, concurrency }
  }

  /**
   * Adds a capability. The type arguments describe the JSON that comes and
   * goes; `inputSchema` is what checks it.
   *
   * @throws ConfigError when the name is taken, or an option is unusable.
   */
  capability<Input = unknown, Output = unknown>(name: string, handler: Handler<Input, Output>): this
  capability<Input = unknown, Output = unknown>(
    name: string,
    options: CapabilityOptions,
    handler: Handler<Input, Output>,
  ): this
  capability(
    name: string,
    optionsOrHandler: CapabilityOptions | Handler<never, unknown>,
    maybeHandler?: Handler<never, unknown>,
  ): this {
    const [options, handler] =
      typeof optionsOrHandler === 'function' ? [{}, optionsOrHandler] : [optionsOrHandler, maybeHandler]
    if (handler === undefined) {
      throw new ConfigError(`capability ${name} has no handler`)
    }
    if (this.#running) {
      throw new ConfigError(`capability ${name} comes too late: the agent has told the server what it can`)
    }
    if (this.#capabilities.has(name)) {
      throw new ConfigError(`capability ${name} exists already`)
    }
    this.#capabilities.set(name, defineCapability(name, options, handler as Handler<unknown, unknown>))
    return this
  }

  /**
   * Connects and serves. Resolves after a graceful stop: SIGTERM or SIGINT, the
   * abort signal, or the server's wish.
   *
   * @throws ConfigError when a setting is missing or wrong; SessionRefusedError
   * when the server will not have the agent.
   */
  async run(options: RunOptions = {}): Promise<void> {
    if (this.#running) {
      throw new ConfigError('the agent runs already')
    }
    this.#running = true
    const log = this.#options.logger ?? stderrLogger
    const tasks = new TaskTable(this.#capabilities, this.#options.concurrency ?? DEFAULT_CONCURRENCY, log)
    try {
      const supervisor = new Supervisor({
        connection: resolveConnection(this.#options),
        introduction: this.#introduction(),
        tasks,
        log,
        stopGraceMs: stopGraceMs(this.#options.stopGraceMs),
        onConnected: options.onConnected ?? (() => undefined),
      })
      await this.#supervise(supervisor, options)
    } finally {
      this.#running = false
    }
    if (tasks.busy > 0 && options.handleSignals !== false) {
      log.warn('handlers that ignore their signal are left behind', { running: tasks.busy })
      // Their timers would keep the process alive, and it was asked to go.
      setTimeout(() => process.exit(), EXIT_PATIENCE_MS).unref()
    }
  }

  async #supervise(supervisor: Supervisor, options: RunOptions): Promise<void> {
    let signals = 0
    const onSignal = (): void => {
      signals += 1
      return signals === 1 ? supervisor.stop() : supervisor.stopNow()
    }
    const onAbort = (): void => supervisor.stop()
    if (options.handleSignals !== false) {
      process.on('SIGTERM', onSignal).on('SIGINT', onSignal)
    }
    options.signal?.addEventListener('abort', onAbort, { once: true })
    if (options.signal?.aborted) {
      onAbort()
    }
    try {
      await supervisor.run()
    } finally {
      process.off('SIGTERM', onSignal).off('SIGINT', onSignal)
      options.signal?.removeEventListener('abort', onAbort)
    }
  }

  #introduction() {
    const capabilities = [...this.#capabilities.values()].map(({ name, options }) =>
      create(CapabilitySchema, {
        name,
        version: options.version ?? '',
        description: options.description ?? '',
        maxConcurrency: options.maxConcurrency ?? 0,
        idempotent: options.idempotent ?? false,
        inputSchemaJson: Buffer.from(options.inputSchema === undefined ? '' : JSON.stringify(options.inputSchema)),
      }),
    )
    return {
      agentName: this.name,
      instanceUuid: randomUUID(),
      sdk: create(SdkSchema, { name: 'parallax-sdk', version: VERSION, language: 'typescript' }),
      protoVersions: [PROTO_VERSION],
      features: [],
      capabilities,
      labels: { ...this.#options.labels },
    }
  }
}
