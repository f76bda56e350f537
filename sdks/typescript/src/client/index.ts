/**
 * Call and deploy agents.
 *
 * @packageDocumentation
 */
export { AgentClient, type ReadyOptions } from './agents.js'
export { type CallOptions, type CallTrace, Client, type ClientOptions, type DeployOptions, type SubmitOptions } from './client.js'
export { AgentFailedError, ApiError, ConnectionError } from './errors.js'
export { RegistryClient } from './registry.js'
export { TaskClient } from './tasks.js'
export type {
  AgentStatus,
  CallUpdate,
  CancelState,
  Deployment,
  DeploySpec,
  Invocation,
  OfferedCapability,
  ProblemCode,
  ReceivedEvidence,
  RegistryChange,
  RegistryEntry,
  SignOfLife,
  StoredValue,
  TaskEvent,
  TaskFailure,
  TaskInfo,
  TaskNews,
  TaskState,
} from './types.js'
/** The documents of the HTTP API, as its OpenAPI document has them. */
export type * as api from '../gen/api.js'
