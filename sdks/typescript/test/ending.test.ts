import assert from 'node:assert/strict'
import { test } from 'node:test'

import { Agent } from '../src/index.js'
import { Goaway_Reason } from '../src/gen/parallax/v1/agents_pb.js'
import { connected, stage } from './support/stage.js'

const echo = (agent: Agent): void => {
  agent.capability('echo', (input) => input)
}

function held() {
  const state = { release: (_value: unknown): void => undefined }
  const define = (agent: Agent): void => {
    agent.capability('hold', () => new Promise((resolve) => (state.release = resolve)))
  }
  return { state, define }
}

test('a superseded agent ends with an error and does not come back', async (t) => {
  const { server, session, run } = await connected(t, echo)
  session.send({ case: 'goaway', value: { reason: Goaway_Reason.SUPERSEDED } })
  await assert.rejects(run, { name: 'SessionRefusedError', code: 'superseded' })
  assert.equal(server.arrivals.left.length, 0)
})

test('a stop drains: the running task ends, and Goaway{drained} ends the agent', async (t) => {
  const { state, define } = held()
  const { session, run, stop } = await connected(t, define, { stopGraceMs: 20_000 })
  const ref = session.give('hold', null)
  await session.next('accepted')
  stop()
  assert.equal((await session.next('drain')).deadlineMs, 20_000n)
  state.release('last')
  assert.equal((await session.next('result')).credit, 0)
  session.acknowledge(ref)
  session.send({ case: 'goaway', value: { reason: Goaway_Reason.DRAINED } })
  await run
})

test('at the end of the grace period a task fails as retryable, and the agent ends', async (t) => {
  const { session, run, stop } = await connected(
    t,
    (agent) => {
      agent.capability('slow', (_input, { signal }) => new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => reject(signal.reason))
      }))
    },
    { stopGraceMs: 200 },
  )
  session.give('slow', null)
  await session.next('accepted')
  stop()
  const { code, retryable } = await session.next('failed')
  assert.deepEqual([code, retryable], ['agent_stopped', true])
  await run
})

test('a stop while nobody is connected and nothing runs ends at once', async (t) => {
  const { server, run, stop } = await stage(t, echo, { stopGraceMs: 60_000 })
  await server.arrivals.take('a session')
  stop()
  await run
})

test('a removed agent finishes its tasks and ends well', async (t) => {
  const { state, define } = held()
  const { server, session, run } = await connected(t, define, { stopGraceMs: 20_000 })
  session.give('hold', null)
  await session.next('accepted')
  session.send({ case: 'goaway', value: { reason: Goaway_Reason.REMOVED } })
  await session.next('drain')
  state.release('last')
  assert.equal(await session.value(), 'last')
  await run
  await session.ended
  assert.equal(server.arrivals.left.length, 0)
})

test('a shutdown names the time to come back', async (t) => {
  const { server, session } = await connected(t, echo)
  const told = performance.now()
  session.send({ case: 'goaway', value: { reason: Goaway_Reason.SHUTDOWN, reconnectAfterMs: 600n } })
  await server.connect()
  assert.ok(performance.now() - told >= 600)
})

test('a missing setting is named', async () => {
  assert.throws(() => new Agent(), /PARALLAX_AGENT_NAME/)
  await assert.rejects(new Agent({ name: 'a' }).run(), { name: 'ConfigError', message: /PARALLAX_URL/ })
  await assert.rejects(new Agent({ name: 'a', url: 'ftp://x' }).run(), /http:\/\/ or https:\/\//)
  const tokenFile = '/nonexistent/token'
  await assert.rejects(new Agent({ name: 'a', url: 'http://127.0.0.1:1', tokenFile }).run(), /\/nonexistent\/token/)
})
