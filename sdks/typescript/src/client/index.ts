/**
 * Call and deploy agents.
 *
 * @packageDocumentation
 */
export {
  type CallOptions,
  Client,
  type ClientOptions,
  type DeployOptions,
  RegistryClient,
  type SubmitOptions,
  TaskClient,
} from './client.js'
export { ApiError, ConnectionError } from './errors.js'
export type {
  Deployment,
  DeploySpec,
  Invocation,
  ReceivedEvidence,
  RegistryEntry,
  StoredValue,
  TaskFailure,
  TaskInfo,
  TaskState,
} from './types.js'
