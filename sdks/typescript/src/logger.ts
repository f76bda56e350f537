/** Values that a log line may carry. */
export type LogFields = Readonly<Record<string, string | number | boolean | undefined>>

/** Where the SDK and handlers write. Replace it by {@link AgentOptions.logger}. */
export interface Logger {
  debug(message: string, fields?: LogFields): void
  info(message: string, fields?: LogFields): void
  warn(message: string, fields?: LogFields): void
  error(message: string, fields?: LogFields): void
}

/** Writes one line of logfmt for each entry to stderr; debug entries are left out. */
export const stderrLogger: Logger = {
  debug: () => undefined,
  info: (message, fields) => write('info', message, fields),
  warn: (message, fields) => write('warn', message, fields),
  error: (message, fields) => write('error', message, fields),
}

/** A logger that adds `fields` to every line. */
export function withFields(logger: Logger, fields: LogFields): Logger {
  return {
    debug: (message, more) => logger.debug(message, { ...fields, ...more }),
    info: (message, more) => logger.info(message, { ...fields, ...more }),
    warn: (message, more) => logger.warn(message, { ...fields, ...more }),
    error: (message, more) => logger.error(message, { ...fields, ...more }),
  }
}

function write(level: string, message: string, fields: LogFields = {}): void {
  let line = `${new Date().toISOString()} ${level} ${message.replace(/\s*\n\s*/g, ' ')}`
  for (const [key, value] of Object.entries(fields)) {
    if (value !== undefined) {
      line += ` ${key}=${quote(String(value))}`
    }
  }
  process.stderr.write(`${line}\n`)
}

function quote(value: string): string {
  return /^[^\s"=]+$/.test(value) ? value : JSON.stringify(value)
}
