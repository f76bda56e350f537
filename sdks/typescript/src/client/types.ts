import type * as api from '../gen/api.js'
import type { Confidence, Usage } from '../result.js'

/** Evidence as a caller sees it. */
export interface ReceivedEvidence {
  readonly kind: string
  readonly summary: string
  readonly detail?: unknown
  readonly blob?: StoredValue
}

/** A value that is kept by its digest. */
export interface StoredValue {
  readonly digest: string
  readonly sizeBytes: number
  readonly mediaType: string
}

/** What a call returned. */
export interface Invocation<T> {
  readonly taskId: string
  readonly value: T
  /** Absent means unknown: not 0, not 1. */
  readonly confidence: Confidence | undefined
  readonly evidence: readonly ReceivedEvidence[]
  readonly usage: Usage | undefined
}

/** What a streamed call tells, in order; the answer is the last. */
export type CallUpdate<T> =
  /** A hole in `seq` means that pieces were dropped because they were not read in time. */
  | SignOfLife
  | { readonly type: 'answer'; readonly answer: Invocation<T> }

/** Where a durable task is. The last five are ends. */
export type TaskState = api.TaskView['state']

/** How far an asked-for cancel has come. */
export type CancelState = api.TaskView['cancel']

/** A stable word for a problem; a newer server may know more of them. */
export type ProblemCode = api.Problem['code'] | (string & {})

/** Why a task has no answer. */
export interface TaskFailure {
  readonly code: ProblemCode
  readonly message: string
  readonly retryable: boolean
  /** The agent's own word, where the agent failed the task. */
  readonly agentCode: string | undefined
}

/** A durable task. */
export interface TaskInfo<T = unknown> {
  readonly id: string
  readonly state: TaskState
  /** Whether the state is an end. */
  readonly ended: boolean
  readonly agent: string
  readonly capability: string
  /** The attempt under way or the last one; 0 before the first dispatch. */
  readonly attempt: number
  readonly cancel: CancelState
  /** There once the task has succeeded. */
  readonly answer: Invocation<T> | undefined
  /** There once the task has ended otherwise. */
  readonly failure: TaskFailure | undefined
  /** The whole answer of the HTTP API. */
  readonly view: api.TaskView
}

/** A change of a durable task. */
export interface TaskEvent<T = unknown> {
  /** Only grows; go on after it with `after`. */
  readonly cursor: number
  readonly at: Date
  /** What happened, such as `dispatched`. */
  readonly kind: string
  /** The task as it was then. */
  readonly task: TaskInfo<T>
}

/** A sign of life of work under way: how far it is, and pieces of its result. */
export type SignOfLife =
  | { readonly type: 'progress'; readonly fraction: number | undefined; readonly message: string }
  | { readonly type: 'partial'; readonly seq: number; readonly chunk: string }

/** What a watcher of a durable task hears. */
export type TaskNews<T = unknown> =
  | { readonly type: 'event'; readonly event: TaskEvent<T> }
  /** Of the attempt under way, told to those who watch at that time and never again. */
  | SignOfLife
  /** So many signs of life were missed because they were not read in time. */
  | { readonly type: 'skipped'; readonly count: number }

/** What a connected instance can do. */
export interface OfferedCapability {
  readonly name: string
  readonly version: string
  readonly description: string
  /** 0 means no limit of its own. */
  readonly maxConcurrency: number
  readonly idempotent: boolean
  /** JSON Schema; undefined when undeclared. */
  readonly inputSchema: unknown
}

/** A connected agent instance. */
export interface RegistryEntry {
  readonly agentName: string
  readonly instanceUuid: string
  /** Hosted agents only. */
  readonly agentId: string | undefined
  /** `connected`, `suspect` (the connection dropped, the lease runs) or `draining`. */
  readonly state: string
  readonly capabilities: readonly OfferedCapability[]
  readonly labels: Readonly<Record<string, string>>
  readonly inFlight: number
  readonly credit: number
  /** The whole entry of the HTTP API. */
  readonly view: api.RegistryEntry
}

/** A change of the registry. */
export type RegistryChange =
  /** Forget everything: the present entries follow. */
  | { readonly type: 'resync' }
  /** All present entries were told; changes follow. */
  | { readonly type: 'synced' }
  | { readonly type: 'upserted'; readonly entry: RegistryEntry }
  | { readonly type: 'removed'; readonly agentName: string; readonly instanceUuid: string }

/** The life of an agent as it is now. */
export interface AgentStatus {
  readonly agent: string
  readonly phase: api.Status['phase']
  /** Why the phase is not `Ready`, as a stable word. */
  readonly reason: NonNullable<api.Status['reason']> | undefined
  /** The evidence: exit code, last log line. */
  readonly message: string
  /** What is wanted, and what the status already speaks of. */
  readonly generation: number
  readonly observedGeneration: number
  readonly replicas: { readonly desired: number; readonly ready: number; readonly updated: number }
  /** The whole answer of the HTTP API. */
  readonly view: api.StatusView
}

/** What a deployment says about the agent; see `docs/reference/parallax-toml.md`. */
export interface DeploySpec {
  readonly name: string
  readonly language?: 'typescript' | 'javascript' | 'python' | 'rust' | 'go'
  /** The program and its arguments; no shell is involved. */
  readonly start?: readonly string[]
  /** The agent's own folder within the source. */
  readonly rootDir?: string
  readonly replicas?: number
  readonly resources?: { readonly cpu?: string | number; readonly memory?: string | number; readonly pids?: number }
  readonly env?: Readonly<Record<string, string>>
  readonly labels?: Readonly<Record<string, string>>
  readonly isolation?: 'process' | 'runc' | 'gvisor'
  readonly install?: 'frozen' | 'loose'
  readonly probe?: { readonly http: string; readonly port: number; readonly intervalMs?: number; readonly timeoutMs?: number }
  readonly stopGraceMs?: number
  /** Environment of the build's steps. */
  readonly build?: { readonly env?: Readonly<Record<string, string>> }
}

/** An accepted deployment; the build and the start follow. */
export interface Deployment {
  /** The agent's name. */
  readonly agent: string
  readonly agentId: string
  /** The number of the revision; undefined where the agent is suspended and has no source. */
  readonly revision: number | undefined
  /** What {@link AgentClient.untilReady} waits for. */
  readonly generation: number
  readonly statusUrl: string
  /** False when the same spec and source run already. */
  readonly changed: boolean
  /** The whole answer of the HTTP API. */
  readonly view: api.DeployResponse
}

const ENDED: ReadonlySet<TaskState> = new Set(['succeeded', 'failed', 'cancelled', 'expired', 'lost'])

/** @internal */
export function invocationOf<T>(json: api.InvokeResponse): Invocation<T> {
  const { task_id, value, confidence, evidence, usage } = json
  return {
    taskId: task_id,
    value: value as T,
    confidence: confidence ? { value: confidence.value_ppm / 1_000_000, source: confidence.source } : undefined,
    evidence: (evidence ?? []).map(evidenceOf),
    usage: usage
      ? {
          inputTokens: usage.input_tokens,
          outputTokens: usage.output_tokens,
          costMicroMinor: usage.cost_micro_minor,
          currency: usage.currency,
        }
      : undefined,
  }
}

/** @internal */
export function taskOf<T>(view: api.TaskView): TaskInfo<T> {
  const { answer, problem } = view.outcome ?? {}
  return {
    id: view.id,
    state: view.state,
    ended: ENDED.has(view.state),
    agent: view.agent,
    capability: view.capability,
    attempt: view.attempt,
    cancel: view.cancel,
    answer: answer ? invocationOf<T>(answer) : undefined,
    failure: problem ? failureOf(problem) : undefined,
    view,
  }
}

/** @internal */
export function taskEventOf<T>({ cursor, at, kind, task }: api.TaskEventView): TaskEvent<T> {
  return { cursor, at: new Date(at), kind, task: taskOf<T>(task) }
}

/** @internal */
export function signOfLifeOf({ progress, partial }: api.TaskEntry): SignOfLife | undefined {
  if (progress) {
    const fraction = typeof progress.ppm === 'number' ? progress.ppm / 1_000_000 : undefined
    return { type: 'progress', fraction, message: progress.message }
  }
  return partial ? { type: 'partial', seq: partial.seq, chunk: partial.chunk } : undefined
}

/** @internal */
export function registryEntryOf(view: api.RegistryEntry): RegistryEntry {
  return {
    agentName: view.agent_name,
    instanceUuid: view.instance_uuid,
    agentId: view.agent_id ?? undefined,
    state: view.state,
    capabilities: view.capabilities.map(({ max_concurrency, input_schema, ...rest }) => ({
      ...rest,
      maxConcurrency: max_concurrency,
      inputSchema: input_schema,
    })),
    labels: view.labels,
    inFlight: view.in_flight,
    credit: view.credit,
    view,
  }
}

/** @internal */
export function statusOf(view: api.StatusView): AgentStatus {
  const { agent, phase, reason, message, generation, observed_generation, replicas } = view
  return { agent, phase, reason: reason ?? undefined, message, generation, observedGeneration: observed_generation, replicas, view }
}

/** @internal */
export function deploymentOf(view: api.DeployResponse): Deployment {
  const { agent, revision, status_url, changed } = view
  return {
    agent: agent.name,
    agentId: agent.id,
    revision: revision?.number ?? undefined,
    generation: agent.generation,
    statusUrl: status_url,
    changed,
    view,
  }
}

/** The spec as the HTTP API reads it. @internal */
export function specDocument({ rootDir, stopGraceMs, probe, ...rest }: DeploySpec): object {
  return {
    ...rest,
    ...(rootDir !== undefined && { root_dir: rootDir }),
    ...(stopGraceMs !== undefined && { stop_grace_ms: stopGraceMs }),
    ...(probe !== undefined && { probe: probeDocument(probe) }),
  }
}

function probeDocument({ intervalMs, timeoutMs, ...rest }: NonNullable<DeploySpec['probe']>): object {
  return {
    ...rest,
    ...(intervalMs !== undefined && { interval_ms: intervalMs }),
    ...(timeoutMs !== undefined && { timeout_ms: timeoutMs }),
  }
}

function failureOf({ code, message, retryable, agent_code }: api.TaskProblem): TaskFailure {
  return { code, message, retryable, agentCode: agent_code ?? undefined }
}

function evidenceOf({ kind, summary, detail, blob }: api.Evidence): ReceivedEvidence {
  return {
    kind,
    summary,
    ...(detail !== undefined && { detail }),
    ...(blob && { blob: { digest: blob.digest, sizeBytes: blob.size_bytes, mediaType: blob.media_type } }),
  }
}
