import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'

import { Agent, type AgentOptions, type Logger } from '../../src/index.js'
import { type Arrival, ScriptedServer, type WelcomeOptions } from './server.js'

const quiet: Logger = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
}

/** A server and an agent that dials it, both gone at the end of the test. */
export interface Stage {
  readonly server: ScriptedServer
  /** How `run()` ended. */
  readonly run: Promise<void>
  readonly stop: () => void
  writeToken(token: string): void
}

/** Starts an agent against a server of its own. */
export async function stage(t: TestContext, define: (agent: Agent) => void, options: AgentOptions = {}): Promise<Stage> {
  const folder = mkdtempSync(join(tmpdir(), 'parallax-sdk-'))
  const tokenFile = join(folder, 'token')
  const writeToken = (token: string): void => writeFileSync(tokenFile, `${token}\n`)
  writeToken('first')
  const server = await ScriptedServer.start()
  const agent = new Agent({
    name: 'tested',
    url: server.url,
    tokenFile,
    concurrency: 4,
    // Most tests leave results without a ResultAck behind.
    stopGraceMs: 100,
    logger: quiet,
    ...options,
  })
  define(agent)
  const stopping = new AbortController()
  const run = agent.run({ signal: stopping.signal, handleSignals: false })
  // A test that expects the rejection awaits `run` itself.
  run.catch(() => undefined)
  t.after(async () => {
    stopping.abort()
    server.die()
    await run.catch(() => undefined)
    rmSync(folder, { recursive: true })
  })
  return { server, run, stop: () => stopping.abort(), writeToken }
}

/** The same, already connected. */
export async function connected(
  t: TestContext,
  define: (agent: Agent) => void,
  { welcome, ...options }: AgentOptions & { welcome?: WelcomeOptions } = {},
): Promise<Stage & { session: Arrival }> {
  const built = await stage(t, define, options)
  return { ...built, session: await built.server.connect(welcome) }
}
