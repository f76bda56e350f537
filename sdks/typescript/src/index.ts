/**
 * Write agents for Parallax, and call them.
 *
 * @packageDocumentation
 */
export { Agent, type AgentOptions, type RunOptions } from './agent.js'
export type { CapabilityOptions, Handler } from './capability.js'
export type { ConnectionOptions } from './config.js'
export type { TaskContext, TaskInput, TraceContext } from './context.js'
export {
  type AbortKind,
  ConfigError,
  type RefusalCode,
  SessionRefusedError,
  TaskAbortedError,
  TaskError,
  type TaskErrorOptions,
} from './errors.js'
export { type LogFields, type Logger, stderrLogger } from './logger.js'
export { type Confidence, type Evidence, Result, result, type ResultOptions, type Usage } from './result.js'
export { VERSION } from './version.js'
