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

/** Where a durable task is. The last five are ends. */
export type TaskState =
  | 'queued'
  | 'dispatched'
  | 'running'
  | 'suspect'
  | 'cancelling'
  | 'succeeded'
  | 'failed'
  | 'cancelled'
  | 'expired'
  | 'lost'

/** Why a task has no answer. */
export interface TaskFailure {
  readonly code: string
  readonly message: string
  readonly retryable: boolean
  /** The agent's own word, where the agent failed the task. */
  readonly agentCode: string | undefined
}

/** A durable task. */
export interface TaskInfo<T = unknown> {
  readonly id: string
  readonly state: TaskState
  readonly agent: string
  readonly capability: string
  /** The attempt under way or the last one; 0 before the first dispatch. */
  readonly attempt: number
  /** How far an asked-for cancel has come: `none`, `requested`, `acked`, `stopped`, `unresolved`. */
  readonly cancel: string
  /** There once the task has succeeded. */
  readonly answer: Invocation<T> | undefined
  /** There once the task has ended otherwise. */
  readonly failure: TaskFailure | undefined
}

/** A connected agent instance. Further fields are those of the HTTP API. */
export interface RegistryEntry {
  readonly agent_name: string
  readonly instance_uuid: string
  readonly [field: string]: unknown
}

/** What a deployment says about the agent, as in `parallax.toml`. */
export interface DeploySpec {
  readonly name: string
  readonly language?: 'typescript' | 'javascript' | 'python' | 'rust' | 'go'
  /** The program and its arguments; no shell is involved. */
  readonly start?: readonly string[]
  /** The agent's own folder within the source. */
  readonly rootDir?: string
  readonly replicas?: number
  readonly env?: Readonly<Record<string, string>>
  readonly labels?: Readonly<Record<string, string>>
  readonly isolation?: 'process' | 'runc' | 'gvisor'
  readonly install?: 'frozen' | 'loose'
  readonly stopGraceMs?: number
}

/** An accepted deployment; the build and the start follow. */
export interface Deployment {
  readonly statusUrl: string
  /** False when the same spec and source run already. */
  readonly changed: boolean
  /** The whole answer of the HTTP API. */
  readonly document: Document
}

/** A JSON object from the server. */
export type Document = Readonly<Record<string, unknown>>

export function documentOf(json: unknown): Document {
  return typeof json === 'object' && json !== null ? (json as Document) : {}
}

export function invocationOf<T>(json: unknown): Invocation<T> {
  const { task_id, value, confidence, evidence, usage } = documentOf(json)
  return {
    taskId: text(task_id),
    value: value as T,
    confidence: confidenceOf(confidence),
    evidence: Array.isArray(evidence) ? evidence.map(evidenceOf) : [],
    usage: usageOf(usage),
  }
}

/** The value that was too large to come along with an answer. */
export function storedValueOf(json: unknown): StoredValue | undefined {
  const { digest, size_bytes, media_type } = documentOf(json)
  return typeof digest === 'string'
    ? { digest, sizeBytes: Number(size_bytes ?? 0), mediaType: text(media_type) }
    : undefined
}

export function taskOf<T>(json: unknown): TaskInfo<T> {
  const task = documentOf(json)
  const { answer, problem } = documentOf(task['outcome'])
  return {
    id: text(task['id'] ?? task['task_id']),
    state: (task['state'] ?? 'queued') as TaskState,
    agent: text(task['agent']),
    capability: text(task['capability']),
    attempt: Number(task['attempt'] ?? 0),
    cancel: text(task['cancel'] ?? 'none'),
    answer: answer === undefined || answer === null ? undefined : invocationOf<T>(answer),
    failure: problem === undefined || problem === null ? undefined : failureOf(documentOf(problem)),
  }
}

function failureOf({ code, message, retryable, agent_code }: Document): TaskFailure {
  return {
    code: text(code),
    message: text(message),
    retryable: retryable === true,
    agentCode: typeof agent_code === 'string' ? agent_code : undefined,
  }
}

function evidenceOf(json: unknown): ReceivedEvidence {
  const { kind, summary, detail, blob } = documentOf(json)
  const stored = storedValueOf(blob)
  return { kind: text(kind), summary: text(summary), ...(detail !== undefined && { detail }), ...(stored && { blob: stored }) }
}

function confidenceOf(json: unknown): Confidence | undefined {
  const { value_ppm, source } = documentOf(json)
  return typeof value_ppm === 'number' ? { value: value_ppm / 1_000_000, source: text(source) } : undefined
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : ''
}

function usageOf(json: unknown): Usage | undefined {
  if (json === null || json === undefined) {
    return undefined
  }
  const { input_tokens, output_tokens, cost_micro_minor, currency } = documentOf(json)
  return {
    inputTokens: Number(input_tokens ?? 0),
    outputTokens: Number(output_tokens ?? 0),
    costMicroMinor: Number(cost_micro_minor ?? 0),
    currency: text(currency),
  }
}
