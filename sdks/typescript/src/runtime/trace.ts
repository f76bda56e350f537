import type { TraceContext } from '../context.js'

/** As much of `@opentelemetry/api` as is used here. The SDK does not depend on it. */
interface OpenTelemetry {
  readonly context: {
    active(): unknown
    with<T>(context: unknown, work: () => T): T
  }
  readonly propagation: {
    extract(context: unknown, carrier: TraceContext): unknown
  }
}

/** A name that no bundler follows: the package is the author's to bring. */
const PACKAGE: string = '@opentelemetry/api'

let loading: Promise<OpenTelemetry | undefined> | undefined

/**
 * Runs `work` so that spans which it starts with OpenTelemetry are children of
 * the task's. Where the process has no OpenTelemetry, or the task no trace, it
 * just runs it.
 */
export async function withinTrace<T>(trace: TraceContext, work: () => T | Promise<T>): Promise<T> {
  if (trace.traceparent === '') {
    return work()
  }
  loading ??= load()
  const otel = await loading
  return otel === undefined ? work() : otel.context.with(otel.propagation.extract(otel.context.active(), trace), work)
}

async function load(): Promise<OpenTelemetry | undefined> {
  try {
    return (await import(PACKAGE)) as OpenTelemetry
  } catch {
    // Not installed, which is the usual case.
    return undefined
  }
}
