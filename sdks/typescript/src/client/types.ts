import type { Confidence, Usage } from '../result.js'

/** Evidence as a caller sees it. */
export interface ReceivedEvidence {
  readonly kind: string
  readonly summary: string
  readonly detail?: unknown
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

/** A durable task. */
export interface TaskInfo {
  readonly id: string
  readonly state: TaskState
  /** The whole document of the HTTP API, e.g. with `outcome` once the task has ended. */
  readonly document: Readonly<Record<string, unknown>>
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
  readonly statusUrl: string | undefined
  readonly document: Readonly<Record<string, unknown>>
}

/** A JSON object from the server. */
export type Document = Readonly<Record<string, unknown>>

export function documentOf(json: unknown): Document {
  return typeof json === 'object' && json !== null ? (json as Document) : {}
}

export function invocationOf<T>(json: unknown): Invocation<T> {
  const { task_id, value, confidence, evidence, usage } = documentOf(json)
  return {
    taskId: String(task_id ?? ''),
    value: value as T,
    confidence: confidenceOf(confidence),
    evidence: Array.isArray(evidence) ? (evidence as ReceivedEvidence[]) : [],
    usage: usageOf(usage),
  }
}

export function taskOf(json: unknown): TaskInfo {
  const document = documentOf(json)
  const { id, task_id, state } = document
  return { id: String(id ?? task_id ?? ''), state: (state ?? 'queued') as TaskState, document }
}

function confidenceOf(json: unknown): Confidence | undefined {
  const { ppm, source } = documentOf(json)
  return typeof ppm === 'number' ? { value: ppm / 1_000_000, source: String(source ?? 'self') } : undefined
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
    currency: String(currency ?? ''),
  }
}
