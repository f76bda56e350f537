import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import { test } from 'node:test'

import { create } from '@bufbuild/protobuf'

import { type Agent, ConfigError, result, TaskError } from '../src/index.js'
import { CancelAck_Outcome } from '../src/gen/parallax/v1/agents_pb.js'
import { PayloadSchema, TaskContextSchema } from '../src/gen/parallax/v1/common_pb.js'
import { connected, stage } from './support/stage.js'

const echo = (agent: Agent): void => {
  agent.capability('echo', (input) => result(input, { confidence: 0.75, evidence: [{ kind: 'note', summary: 'hm' }] }))
}
const slow = (agent: Agent): void => {
  agent.capability<{ ms: number }>('slow', { maxConcurrency: 1 }, async ({ ms }, { signal }) => {
    await sleep(ms, undefined, { signal })
    return 'slept'
  })
}

test('Hello says who the agent is and what it can', async (t) => {
  const { session } = await connected(t, (agent) => {
    agent.capability('score', { inputSchema: { type: 'string' }, idempotent: true, maxConcurrency: 2, version: '1.1' }, () => 0)
  })
  const { agentName, credit, protoVersions, sdk, capabilities, instanceUuid } = session.hello
  assert.equal(agentName, 'tested')
  assert.equal(credit, 4)
  assert.deepEqual(protoVersions, [1])
  assert.equal(sdk?.language, 'typescript')
  assert.match(instanceUuid, /^[0-9a-f-]{36}$/)
  const [score] = capabilities
  assert.equal(score?.maxConcurrency, 2)
  assert.equal(score?.idempotent, true)
  assert.equal(Buffer.from(score?.inputSchemaJson ?? []).toString(), '{"type":"string"}')
  assert.deepEqual(session.metadata.get('authorization'), ['Bearer first'])
})

test('a value comes back with its confidence, its evidence and a credit', async (t) => {
  const { session } = await connected(t, echo)
  const input = { text: 'žluťoučký 🦜 \u0000', list: [null, 1.5] }
  const ref = session.give('echo', input)
  assert.deepEqual((await session.next('accepted')).ref, ref)
  const { confidence, evidence, value, credit } = await session.next('result')
  assert.equal(confidence?.ppm, 750_000)
  assert.equal(confidence?.source, 'self')
  assert.deepEqual([evidence[0]?.kind, evidence[0]?.summary], ['note', 'hm'])
  assert.deepEqual(JSON.parse(Buffer.from(value?.content.value as Uint8Array).toString()), input)
  assert.equal(credit, 1)
})

test('a handler sees its context', async (t) => {
  const { session } = await connected(t, (agent) => {
    agent.capability('who', (_input, ctx) => [ctx.taskId, ctx.attempt, ctx.run, ctx.trace.traceparent, ctx.caller, ctx.idempotencyKey])
  })
  const context = create(TaskContextSchema, { traceparent: '00-1-2-01', caller: 'žofie' })
  session.give('who', null, { context, idempotencyKey: 'once' })
  assert.deepEqual(await session.value(), ['tsk_1', 1, 'exe_1', '00-1-2-01', 'žofie', 'once'])
})

test('a TaskError reaches the caller as it is', async (t) => {
  const { session } = await connected(t, (agent) => {
    agent.capability('fail', () => {
      throw new TaskError('quota_gone', 'later', { retryable: true, retryAfterMs: 1_500 })
    })
  })
  session.give('fail', null)
  const { code, message, retryable, retryAfterMs, credit } = await session.next('failed')
  assert.deepEqual([code, message, retryable, retryAfterMs, credit], ['quota_gone', 'later', true, 1_500n, 1])
})

test('any other error is internal, without its stack', async (t) => {
  const { session } = await connected(t, (agent) => {
    agent.capability('crash', () => {
      throw new Error('boom')
    })
    agent.capability('odd', () => 1n)
  })
  session.give('crash', null)
  const { code, message } = await session.next('failed')
  assert.deepEqual([code, message], ['internal', 'boom'])
  session.give('odd', null)
  assert.match((await session.next('failed')).message, /result is not JSON: .*BigInt/)
})

test('a result that cannot be encoded fails, and the agent lives on', async (t) => {
  const { session } = await connected(t, (agent) => {
    agent.capability('untyped', () => result(1, { usage: { inputTokens: Number.NaN } }))
  })
  session.give('untyped', null)
  const { code, message, credit } = await session.next('failed')
  assert.deepEqual([code, credit], ['internal', 1])
  assert.match(message, /cannot be sent/)
  session.give('untyped', null)
  assert.equal((await session.next('failed')).code, 'internal')
})

test('input that breaks the schema never reaches the handler', async (t) => {
  const { session } = await connected(t, (agent) => {
    const inputSchema = { type: 'object', required: ['n'], properties: { n: { type: 'integer' } } }
    agent.capability('schema', { inputSchema }, () => 'ok')
  })
  session.give('schema', { n: 1.5 })
  const { code, message } = await session.next('failed')
  assert.deepEqual([code, message], ['invalid_input', '/n must be integer'])
  session.give('schema', { n: 1 })
  assert.equal(await session.value(), 'ok')
})

test('bytes that are not UTF-8 JSON are invalid input', async (t) => {
  const { session } = await connected(t, echo)
  for (const bytes of ['{"a":', '', '{} {}', Buffer.from([0xff, 0xfe])]) {
    const input = create(PayloadSchema, { content: { case: 'json', value: Buffer.from(bytes as string) } })
    session.give('echo', null, { input })
    assert.equal((await session.next('failed')).code, 'invalid_input')
  }
})

test('a capability that nobody declared fails, whatever its name', async (t) => {
  const { session } = await connected(t, echo)
  for (const name of ['nonesuch', '', '__proto__', 'constructor']) {
    session.give(name, null)
    assert.equal((await session.next('failed')).code, 'unknown_capability')
  }
})

test('a deadline aborts the handler and fails the task', async (t) => {
  const { session } = await connected(t, slow)
  session.give('slow', { ms: 60_000 }, { timeLeftMs: 50n, deadlineUnixMs: 1n })
  const { code, credit } = await session.next('failed')
  assert.deepEqual([code, credit], ['deadline_exceeded', 1])
})

test('the time left counts, not the clock', async (t) => {
  const { session } = await connected(t, (agent) => {
    agent.capability('left', (_input, ctx) => ctx.timeLeftMs() ?? null)
  })
  session.give('left', null, { timeLeftMs: 60_000n, deadlineUnixMs: 1n })
  const left = (await session.value()) as number
  assert.ok(left > 0 && left <= 60_000, `${left}`)
  session.give('left', null)
  assert.equal(await session.value(), null)
})

test('a capability runs no more than its limit, in order', async (t) => {
  const { session } = await connected(t, (agent) => {
    let running = 0
    agent.capability('serial', { maxConcurrency: 1 }, async () => {
      running += 1
      await sleep(5)
      running -= 1
      return running
    })
  })
  session.give('serial', null)
  session.give('serial', null)
  session.give('serial', null)
  assert.deepEqual([await session.value(), await session.value(), await session.value()], [0, 0, 0])
})

test('a cancel stops the handler and gives the credit back', async (t) => {
  const { session } = await connected(t, slow)
  const ref = session.give('slow', { ms: 60_000 })
  await session.next('accepted')
  session.send({ case: 'cancel', value: { ref, reason: 'enough', graceMs: 1_000n } })
  assert.equal((await session.next('cancelAck')).outcome, CancelAck_Outcome.STOPPED)
  assert.equal((await session.next('credit')).n, 1)
  session.send({ case: 'cancel', value: { ref } })
  assert.equal((await session.next('cancelAck')).outcome, CancelAck_Outcome.STOPPED)
})

test('a cancel of a queued task stops it, and of an unknown one says so', async (t) => {
  const { session } = await connected(t, slow)
  session.give('slow', { ms: 60_000 })
  const queued = session.give('slow', { ms: 60_000 })
  session.send({ case: 'cancel', value: { ref: queued } })
  assert.equal((await session.next('cancelAck')).outcome, CancelAck_Outcome.STOPPED)
  session.send({ case: 'cancel', value: { ref: { ...queued, attempt: 2 } } })
  assert.equal((await session.next('cancelAck')).outcome, CancelAck_Outcome.UNKNOWN)
})

test('a handler that ignores the cancel is never called stopped', async (t) => {
  let release: (value: string) => void = () => undefined
  const { session } = await connected(t, (agent) => {
    agent.capability('stubborn', () => new Promise((resolve) => (release = resolve)))
  })
  const ref = session.give('stubborn', null)
  await session.next('accepted')
  session.send({ case: 'cancel', value: { ref, graceMs: 1n } })
  await session.settle()
  assert.deepEqual(session.frames.left, [])
  release('after all')
  assert.equal((await session.next('cancelAck')).outcome, CancelAck_Outcome.TOO_LATE)
  assert.equal(await session.value(), 'after all')
  session.send({ case: 'cancel', value: { ref } })
  assert.equal((await session.next('cancelAck')).outcome, CancelAck_Outcome.TOO_LATE)
})

test('inputs reach the handler in order and once', async (t) => {
  const { session } = await connected(t, (agent) => {
    agent.capability('ask', async (_input, ctx) => {
      const answers: unknown[] = []
      for await (const { value } of ctx.inputs) {
        if (answers.push(value) === 2) {
          break
        }
      }
      return answers
    })
  })
  const ref = session.give('ask', null)
  for (const id of ['a', 'a', 'b']) {
    const json = Buffer.from(JSON.stringify(`answer ${id}`))
    session.send({ case: 'input', value: { ref, id, value: { content: { case: 'json', value: json } } } })
  }
  assert.deepEqual(await session.value(), ['answer a', 'answer b'])
})

test('a server that allows less credit than the agent has gets no more than that', async (t) => {
  const { session } = await connected(t, echo, { welcome: { limits: { maxCredit: 1 } } })
  session.give('echo', 1)
  assert.equal((await session.next('result')).credit, 1)
  await session.settle()
  assert.deepEqual(session.frames.left.map(({ case: kind }) => kind), ['accepted'])
})

test('no further credit is granted while too many results wait for their ResultAck', async (t) => {
  const { session } = await connected(t, echo)
  const refs = []
  const credits = new Map<number, number>()
  for (let given = 0; given < 1_024; given += 1) {
    refs.push(session.give('echo', given))
    const { credit } = await session.next('result')
    credits.set(credit, (credits.get(credit) ?? 0) + 1)
  }
  assert.deepEqual([...credits], [[1, 1_023], [0, 1]])
  session.acknowledge(refs[0])
  assert.equal((await session.next('credit')).n, 1)
})

test('what cannot work is refused before the agent connects', async (t) => {
  await stage(t, (agent) => {
    agent.capability('once', () => 1)
    assert.throws(() => agent.capability('once', () => 2), ConfigError)
    assert.throws(() => agent.capability('', () => 2), ConfigError)
    assert.throws(() => agent.capability('half', { maxConcurrency: 0.5 }, () => 2), ConfigError)
    assert.throws(() => agent.capability('bad', { inputSchema: { type: 'nothing' } }, () => 2), /not a JSON Schema/)
    assert.throws(() => result(1, { confidence: 1.01 }), RangeError)
    assert.throws(() => result(1, { confidence: Number.NaN }), RangeError)
  })
})
