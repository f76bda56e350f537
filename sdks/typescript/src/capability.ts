import { Ajv, type ValidateFunction } from 'ajv'
import { Ajv2020 } from 'ajv/dist/2020.js'

import type { TaskContext } from './context.js'
import { ConfigError, messageOf, TaskError } from './errors.js'
import type { Result } from './result.js'

/** What a capability says about itself. */
export interface CapabilityOptions {
  /** One or two sentences for people and for models that choose among capabilities. */
  readonly description?: string
  /** The capability's own version, e.g. `1.2.0`. */
  readonly version?: string
  /**
   * JSON Schema of the input: draft 2020-12, or draft 7 where `$schema` says so.
   * Input that does not satisfy it fails as `invalid_input` before the handler
   * runs. `format` is not checked.
   */
  readonly inputSchema?: object
  /** At most this many tasks of the capability run at once; more wait. Default: no limit of its own. */
  readonly maxConcurrency?: number
  /** Whether running a task twice does no harm. Only such tasks are retried by the server. Default: false. */
  readonly idempotent?: boolean
}

/**
 * Does the work. What it returns must be JSON (`undefined` becomes `null`).
 * Numbers in the input are JavaScript numbers: integers beyond ±2^53 lose
 * their last digits, so pass those as strings.
 */
export type Handler<Input, Output> = (
  input: Input,
  ctx: TaskContext,
) => Output | Result<Output> | Promise<Output | Result<Output>>

/** A capability as the runtime uses it. */
export interface Capability {
  readonly name: string
  readonly options: CapabilityOptions
  readonly handler: Handler<unknown, unknown>
  /** Throws {@link TaskError} `invalid_input` where the input breaks the schema. */
  readonly validate: (input: unknown) => void
}

/**
 * Checks a definition.
 *
 * @throws ConfigError when the name, the limit or the schema is unusable.
 */
export function defineCapability(
  name: string,
  options: CapabilityOptions,
  handler: Handler<unknown, unknown>,
): Capability {
  if (name.trim() === '') {
    throw new ConfigError('a capability needs a name')
  }
  const limit = options.maxConcurrency ?? 0
  if (!Number.isInteger(limit) || limit < 0) {
    throw new ConfigError(`maxConcurrency of capability ${name} must be a whole number, not ${limit}`)
  }
  return { name, options, handler, validate: validator(name, options.inputSchema) }
}

function validator(name: string, schema: object | undefined): (input: unknown) => void {
  if (schema === undefined) {
    return () => undefined
  }
  const check = compile(name, schema)
  return (input) => {
    if (!check(input)) {
      const problem = check.errors?.[0]
      const where = problem?.instancePath || 'the input'
      throw new TaskError('invalid_input', `${where} ${problem?.message ?? 'does not satisfy the schema'}`)
    }
  }
}

function compile(name: string, schema: object): ValidateFunction {
  const dialect = '$schema' in schema ? String(schema.$schema) : ''
  // Unknown keywords and formats are annotations in JSON Schema, not mistakes.
  const options = { strict: false, validateFormats: false }
  try {
    return (dialect.includes('draft-07') ? new Ajv(options) : new Ajv2020(options)).compile(schema)
  } catch (error) {
    throw new ConfigError(`inputSchema of capability ${name} is not a JSON Schema: ${messageOf(error)}`)
  }
}
