import assert from 'node:assert/strict'
import { test } from 'node:test'

import { Metadata, status } from '@grpc/grpc-js'

import type { Agent } from '../src/index.js'
import { CancelAck_Outcome, InventoryItem_State } from '../src/gen/parallax/v1/agents_pb.js'
import { connected, stage } from './support/stage.js'

const echo = (agent: Agent): void => {
  agent.capability('echo', (input) => input)
}

/** A capability `hold` that ends, or ignores its signal, as the test says. */
function held() {
  const state = { release: (_value: unknown): void => undefined, aborted: undefined as unknown }
  const define = (agent: Agent): void => {
    agent.capability('hold', (_input, { signal }) => {
      signal.addEventListener('abort', () => (state.aborted = signal.reason))
      return new Promise((resolve) => (state.release = resolve))
    })
  }
  return { state, define }
}

test('a running task survives a lost connection', async (t) => {
  const { state, define } = held()
  const { server, session } = await connected(t, define)
  const ref = session.give('hold', null)
  await session.next('accepted')
  session.fail(status.UNAVAILABLE, 'gone')
  const next = await server.arrivals.take('a session')
  const { inventory, credit, instanceUuid } = await next.awaitHello()
  assert.equal(instanceUuid, session.hello.instanceUuid)
  assert.deepEqual([inventory[0]?.ref, inventory[0]?.state, credit], [ref, InventoryItem_State.RUNNING, 3])
  await next.welcome({ verdicts: [{ ref, verdict: { case: 'keep', value: { afterSeq: 0n } } }] })
  state.release('through')
  const { credit: back } = await next.next('result')
  assert.equal(back, 1)
})

test('a result without a ResultAck is sent again, with no credit, and dropped when acknowledged', async (t) => {
  const { server, session } = await connected(t, echo)
  const ref = session.give('echo', 'keep me')
  const first = await session.next('result')
  session.fail(status.UNAVAILABLE, 'gone')
  const second = await server.connect({ verdicts: [{ ref, verdict: { case: 'sendResult', value: {} } }] })
  assert.equal(second.hello.inventory[0]?.state, InventoryItem_State.FINISHED)
  assert.equal(second.hello.credit, 4)
  assert.deepEqual(await second.next('result'), { ...first, credit: 0 })
  second.acknowledge(ref)
  await second.settle()
  second.fail(status.UNAVAILABLE, 'gone')
  assert.deepEqual((await server.connect()).hello.inventory, [])
})

test('a forgotten result is dropped', async (t) => {
  const { server, session } = await connected(t, echo)
  const ref = session.give('echo', 1)
  await session.next('result')
  session.fail(status.UNAVAILABLE, 'gone')
  const second = await server.connect({ verdicts: [{ ref, verdict: { case: 'forget', value: {} } }] })
  await second.settle()
  assert.deepEqual(second.frames.left, [])
})

test('a task that ends between Hello and Welcome is delivered once, whatever the verdict says', async (t) => {
  const { state, define } = held()
  const { server, session } = await connected(t, define)
  const ref = session.give('hold', null)
  await session.next('accepted')
  session.fail(status.UNAVAILABLE, 'gone')
  const second = await server.arrivals.take('a session')
  await second.awaitHello()
  state.release('in between')
  await new Promise(setImmediate)
  await second.welcome({ verdicts: [{ ref, verdict: { case: 'keep', value: {} } }] })
  assert.equal((await second.next('result')).credit, 1)
  await second.settle()
  assert.deepEqual(second.frames.left, [])
})

test('a cancel verdict aborts the task, and what it returns is dropped', async (t) => {
  const { state, define } = held()
  const { server, session } = await connected(t, define)
  const ref = session.give('hold', null)
  await session.next('accepted')
  session.fail(status.UNAVAILABLE, 'gone')
  const second = await server.connect({ verdicts: [{ ref, verdict: { case: 'cancel', value: { reason: 'nobody' } } }] })
  await second.settle()
  assert.match(String(state.aborted), /nobody/)
  state.release('too late')
  assert.equal((await second.next('cancelAck')).outcome, CancelAck_Outcome.STOPPED)
  assert.equal((await second.next('credit')).n, 1)
  assert.deepEqual(second.frames.left, [])
})

test('a task that was cancelled and stopped while away is still listed, and acknowledged', async (t) => {
  const { server, session } = await connected(t, (agent) => {
    agent.capability('slow', (_input, { signal }) => new Promise((_resolve, reject) => {
      signal.addEventListener('abort', () => setImmediate(() => reject(signal.reason)))
    }))
  })
  const ref = session.give('slow', null)
  await session.next('accepted')
  session.send({ case: 'cancel', value: { ref } })
  session.send({ case: 'goaway', value: { reason: 1 } })
  const second = await server.connect({ verdicts: [{ ref, verdict: { case: 'cancel', value: {} } }] })
  assert.equal(second.hello.inventory.length, 1)
  assert.equal(second.hello.credit, 4)
  assert.equal((await second.next('cancelAck')).outcome, CancelAck_Outcome.STOPPED)
  second.fail(status.UNAVAILABLE, 'gone')
  assert.deepEqual((await server.connect()).hello.inventory, [])
})

test('partials after the number that the server has are sent again', async (t) => {
  const { server, session } = await connected(
    t,
    (agent) => {
      agent.capability('stream', async (_input, ctx) => {
        for (const chunk of ['one', 'two', 'six', 'ten']) {
          await ctx.partial(chunk)
        }
        return 'all'
      })
    },
    { welcome: { limits: { partialWindowBytes: 6 } } },
  )
  const ref = session.give('stream', null)
  await session.next('partial')
  await session.next('partial')
  session.fail(status.UNAVAILABLE, 'gone')
  const verdicts = [{ ref, verdict: { case: 'keep' as const, value: { afterSeq: 1n } } }]
  const second = await server.connect({ verdicts, limits: { partialWindowBytes: 6 } })
  assert.equal(second.hello.inventory[0]?.lastUpSeq, 2n)
  second.send({ case: 'partialCredit', value: { ref, bytes: 100 } })
  const seen = []
  for (let at = 0; at < 3; at += 1) {
    const { seq, chunk } = await second.next('partial')
    seen.push(`${seq}:${Buffer.from(chunk).toString()}`)
  }
  assert.deepEqual(seen, ['2:two', '3:six', '4:ten'])
  assert.equal(await second.value(), 'all')
})

test('a server that restarts on its port is found', async (t) => {
  const { server, session } = await connected(t, echo)
  await session.settle()
  server.die()
  await server.rise()
  const second = await server.connect()
  second.give('echo', 'back')
  assert.equal(await second.value(), 'back')
})

test('a server that says nothing for two ttl is left', async (t) => {
  const { server, session } = await connected(t, echo, { welcome: { ttlMs: 60 } })
  assert.equal((await session.next('heartbeat')).leaseEpoch, 7n)
  const second = await server.connect()
  assert.equal(second.hello.instanceUuid, session.hello.instanceUuid)
})

test('retry-after-ms is obeyed, and the token is read at each connect', async (t) => {
  const { server, writeToken } = await stage(t, echo)
  const first = await server.arrivals.take('a session')
  const refused = performance.now()
  const metadata = new Metadata()
  metadata.set('retry-after-ms', '700')
  writeToken('second')
  first.fail(status.UNAVAILABLE, 'too many', metadata)
  const second = await server.connect()
  assert.ok(performance.now() - refused >= 700)
  assert.deepEqual(second.metadata.get('authorization'), ['Bearer second'])
})

test('an agent that may not have its name is told so', async (t) => {
  const { server, run } = await stage(t, echo)
  ;(await server.arrivals.take('a session')).fail(status.PERMISSION_DENIED, 'not yours')
  await assert.rejects(run, { name: 'SessionRefusedError', code: 'permission_denied', message: /not yours/ })
})
