// The agent that the conformance suite drives. It takes everything from the
// environment and prints "ready" after its first Welcome.
import { setTimeout as sleep } from 'node:timers/promises'

import { Agent, result, TaskError } from '@parallax/sdk'

const agent = new Agent({ name: 'conformance-fixture', concurrency: 4 })

agent.capability('echo', { idempotent: true }, (/** @type {unknown} */ input) =>
  result(input, { confidence: 0.75, evidence: [{ kind: 'note', summary: 'echoed' }] }),
)

agent.capability('slow', async (/** @type {{ ms: number }} */ { ms }, { signal }) => {
  await sleep(ms, undefined, { signal })
  return { slept: ms }
})

agent.capability('stubborn', async (/** @type {{ ms: number }} */ { ms }) => {
  await sleep(ms)
  return { stubborn: true }
})

agent.capability(
  'fail',
  (/** @type {{ code: string, message: string, retryable?: boolean, retry_after_ms?: number }} */ input) => {
    throw new TaskError(input.code, input.message, {
      retryable: input.retryable ?? false,
      retryAfterMs: input.retry_after_ms ?? 0,
    })
  },
)

agent.capability('crash', () => {
  throw new Error('boom')
})

agent.capability('stream', async (/** @type {{ chunks: number, bytes: number, after_input?: boolean }} */ { chunks, bytes, after_input }, ctx) => {
  if (after_input) {
    await ctx.inputs[Symbol.asyncIterator]().next()
  }
  for (let sent = 0; sent < chunks; sent += 1) {
    ctx.progress(sent / chunks, `${sent} of ${chunks}`)
    await ctx.partial('x'.repeat(bytes))
  }
  return { chunks }
})

agent.capability('large', (/** @type {{ bytes: number }} */ { bytes }) => ({ data: 'x'.repeat(bytes) }))

agent.capability('size', (/** @type {{ data: string }} */ { data }) => ({ bytes: Buffer.byteLength(data) }))

let serial = 0
agent.capability('serial', { maxConcurrency: 1 }, async (/** @type {{ ms: number }} */ { ms }, { signal }) => {
  serial += 1
  const overlapped = serial > 1
  try {
    await sleep(ms, undefined, { signal })
  } finally {
    serial -= 1
  }
  return { overlapped }
})

agent.capability('deadline', (_input, ctx) => ({ time_left_ms: ctx.timeLeftMs() ?? null }))

agent.capability('ask', async (_input, ctx) => {
  for await (const { value } of ctx.inputs) {
    return { answer: value }
  }
  throw new TaskError('no_answer', 'the inputs ended without one')
})

agent.capability('context', (_input, ctx) => ({
  ...ctx.trace,
  task_id: ctx.taskId,
  attempt: ctx.attempt,
  caller: ctx.caller,
  context_id: ctx.contextId,
}))

agent.capability(
  'schema',
  { inputSchema: { type: 'object', required: ['n'], properties: { n: { type: 'integer' } } } },
  () => ({ ok: true }),
)

let announced = false
await agent.run({
  onConnected: () => {
    if (!announced) {
      announced = true
      console.log('ready')
    }
  },
})
