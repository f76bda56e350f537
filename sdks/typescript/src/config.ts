import { readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'

import { ConfigError, messageOf } from './errors.js'

/** How long a stopping agent lets its tasks run, in milliseconds, unless `PARALLAX_STOP_GRACE_MS` says otherwise. */
const DEFAULT_STOP_GRACE_MS = 10_000

/** Where the server is and who the agent is there. */
export interface ConnectionOptions {
  /** `http://127.0.0.1:PORT` or `https://…`. Default: `PARALLAX_URL`. */
  readonly url?: string
  /** A file with the credential, read again at each connect. Default: `PARALLAX_TOKEN_FILE`. */
  readonly tokenFile?: string
  /** A PEM file with the roots to trust. Default: `PARALLAX_CA_FILE`, else the system's. */
  readonly caFile?: string
}

/** The connection's settings, with everything optional decided. */
export interface Connection {
  readonly url: URL
  readonly tokenFile: string | undefined
  readonly caFile: string | undefined
}

/** @throws ConfigError when there is no URL, or one that is not http(s). */
export function resolveConnection(options: ConnectionOptions): Connection {
  return {
    url: serverUrl(options.url),
    tokenFile: options.tokenFile ?? setting('PARALLAX_TOKEN_FILE'),
    caFile: options.caFile ?? setting('PARALLAX_CA_FILE'),
  }
}

/** @throws ConfigError when neither the argument nor `PARALLAX_URL` is an http(s) URL. */
export function serverUrl(explicit: string | undefined): URL {
  const text = explicit ?? setting('PARALLAX_URL')
  if (text === undefined) {
    throw new ConfigError('no server: set PARALLAX_URL, e.g. http://127.0.0.1:7400, or pass `url`')
  }
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url === undefined || !/^https?:$/.test(url.protocol)) {
    throw new ConfigError(`PARALLAX_URL must be an http:// or https:// URL, not ${JSON.stringify(text)}`)
  }
  return url
}

/** @throws ConfigError when neither the argument nor `PARALLAX_AGENT_NAME` names the agent. */
export function agentName(explicit: string | undefined): string {
  const name = explicit ?? setting('PARALLAX_AGENT_NAME')
  if (name === undefined) {
    throw new ConfigError('the agent has no name: pass `name` or set PARALLAX_AGENT_NAME')
  }
  return name
}

/** @throws ConfigError when `PARALLAX_STOP_GRACE_MS` is not a whole number of milliseconds. */
export function stopGraceMs(explicit: number | undefined): number {
  const text = setting('PARALLAX_STOP_GRACE_MS')
  const value = explicit ?? (text === undefined ? DEFAULT_STOP_GRACE_MS : Number(text))
  if (!Number.isInteger(value) || value < 0) {
    throw new ConfigError(`PARALLAX_STOP_GRACE_MS must be a whole number of milliseconds, not ${text ?? value}`)
  }
  return value
}

/** The file that holds a caller's key: `PARALLAX_API_KEY_FILE` by default. */
export function apiKeyFile(explicit: string | undefined): string | undefined {
  return explicit ?? setting('PARALLAX_API_KEY_FILE')
}

/**
 * Reads a credential; credentials are renewed in place, so nobody keeps one.
 *
 * @throws ConfigError when the file cannot be read or is empty.
 */
export async function readToken(path: string | undefined): Promise<string | undefined> {
  if (path === undefined) {
    return undefined
  }
  const token = (await readNamed(path, 'the credential')).toString('utf8').trim()
  if (token === '') {
    throw new ConfigError(`the credential file ${path} is empty`)
  }
  return token
}

/** @throws ConfigError when the file cannot be read. */
export async function readRoots(path: string | undefined): Promise<Buffer | undefined> {
  return path === undefined ? undefined : readNamed(path, 'the trusted roots')
}

/** The same as {@link readRoots}, for constructors. */
export function readRootsSync(path: string | undefined): Buffer | undefined {
  try {
    return path === undefined ? undefined : readFileSync(path)
  } catch (error) {
    throw new ConfigError(`cannot read the trusted roots: ${messageOf(error)}`)
  }
}

/** The roots file of a caller: `PARALLAX_CA_FILE` by default. */
export function caFileOf(explicit: string | undefined): string | undefined {
  return explicit ?? setting('PARALLAX_CA_FILE')
}

/** What a failure to trust the server's certificate looks like in Node and in gRPC. */
const UNTRUSTED = /certificate|CERT_|issuer/i

/** What to do about a connection that failed because of the server's certificate; empty for other failures. */
export function trustAdvice(failure: string, caFile: string | undefined): string {
  if (!UNTRUSTED.test(failure)) {
    return ''
  }
  return caFile === undefined
    ? "; set PARALLAX_CA_FILE to a PEM file with the authority that signed the server's certificate"
    : `; PARALLAX_CA_FILE is ${caFile}: it does not hold the authority that signed the server's certificate`
}

async function readNamed(path: string, what: string): Promise<Buffer> {
  try {
    return await readFile(path)
  } catch (error) {
    throw new ConfigError(`cannot read ${what}: ${messageOf(error)}`)
  }
}

/** The environment is read here and nowhere else. An empty variable counts as absent. */
function setting(name: string): string | undefined {
  return process.env[name]?.trim() || undefined
}
