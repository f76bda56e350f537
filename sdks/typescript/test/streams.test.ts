import assert from 'node:assert/strict'
import { test } from 'node:test'

import { create } from '@bufbuild/protobuf'

import type { Agent } from '../src/index.js'
import { result } from '../src/index.js'
import { CancelAck_Outcome } from '../src/gen/parallax/v1/agents_pb.js'
import { BlobRefSchema, PayloadSchema } from '../src/gen/parallax/v1/common_pb.js'
import { connected } from './support/stage.js'

const stream = (agent: Agent): void => {
  agent.capability<{ chunks: number; bytes: number }>('stream', async ({ chunks, bytes }, ctx) => {
    for (let sent = 0; sent < chunks; sent += 1) {
      ctx.progress(sent / chunks, `${sent}`)
      await ctx.partial('x'.repeat(bytes))
    }
    return { chunks }
  })
}
const data = (agent: Agent): void => {
  agent.capability<{ bytes: number }>('large', ({ bytes }) => 'x'.repeat(bytes))
  agent.capability<string>('size', (input) => input.length)
}

test('progress and partials come in sequence, before the result', async (t) => {
  const { session } = await connected(t, stream)
  session.give('stream', { chunks: 3, bytes: 5 })
  assert.equal((await session.next('progress')).ppm, 0)
  assert.equal((await session.next('progress')).ppm, 333_333)
  for (const seq of [1n, 2n, 3n]) {
    const partial = await session.next('partial')
    assert.deepEqual([partial.seq, Buffer.from(partial.chunk).toString()], [seq, 'xxxxx'])
  }
  assert.deepEqual(await session.value(), { chunks: 3 })
})

test('the window stops the agent until PartialCredit', async (t) => {
  const { session } = await connected(t, stream, { welcome: { limits: { partialWindowBytes: 1_000 } } })
  const ref = session.give('stream', { chunks: 5, bytes: 500 })
  await session.next('partial')
  await session.next('partial')
  await session.settle()
  assert.equal(session.frames.left.some(({ case: kind }) => kind === 'partial'), false)
  session.send({ case: 'partialCredit', value: { ref, bytes: 500 } })
  assert.equal((await session.next('partial')).seq, 3n)
  session.send({ case: 'partialCredit', value: { ref, bytes: 1_000 } })
  assert.deepEqual(await session.value(), { chunks: 5 })
})

test('a chunk larger than half the window goes in parts, none of them empty', async (t) => {
  const { session } = await connected(t, stream, { welcome: { limits: { partialWindowBytes: 1_000 } } })
  const ref = session.give('stream', { chunks: 1, bytes: 3_000 })
  const sizes = []
  for (let part = 0; part < 6; part += 1) {
    const { chunk } = await session.next('partial')
    sizes.push(chunk.byteLength)
    session.send({ case: 'partialCredit', value: { ref, bytes: chunk.byteLength } })
  }
  assert.deepEqual(sizes, [500, 500, 500, 500, 500, 500])
  assert.deepEqual(await session.value(), { chunks: 1 })
})

test('a small chunk before a large one does not wait for ever: room comes at half a window', async (t) => {
  const { session } = await connected(
    t,
    (agent) => {
      agent.capability('stream', async (_, ctx) => {
        await ctx.partial('x')
        await ctx.partial('y'.repeat(1_000))
        return null
      })
    },
    { welcome: { limits: { partialWindowBytes: 1_000 } } },
  )
  const ref = session.give('stream', null)
  for (let used = 0, taken = 0; taken < 1_001; ) {
    const { chunk } = await session.next('partial')
    used += chunk.byteLength
    taken += chunk.byteLength
    if (used >= 500) {
      session.send({ case: 'partialCredit', value: { ref, bytes: used } })
      used = 0
    }
  }
  assert.equal(await session.value(), null)
})

test('a cancel ends the wait for the window', async (t) => {
  const { session } = await connected(t, stream, { welcome: { limits: { partialWindowBytes: 10 } } })
  const ref = session.give('stream', { chunks: 3, bytes: 10 })
  await session.next('partial')
  session.send({ case: 'cancel', value: { ref } })
  assert.equal((await session.next('cancelAck')).outcome, CancelAck_Outcome.STOPPED)
})

test('partials that nobody awaits all come before the result, and too many fail the task', async (t) => {
  const { session } = await connected(
    t,
    (agent) => {
      agent.capability<number>('hasty', (count, ctx) => {
        for (let sent = 0; sent < count; sent += 1) {
          void ctx.partial('12345')
        }
        return 'done'
      })
    },
    { welcome: { limits: { partialWindowBytes: 10 } } },
  )
  const ref = session.give('hasty', 3)
  await session.next('partial')
  session.send({ case: 'partialCredit', value: { ref, bytes: 100 } })
  assert.equal(await session.value(), 'done')
  session.give('hasty', 5_000)
  assert.match((await session.next('failed')).message, /await ctx.partial/)
})

test('a large value goes by blob and is uploaded again where that failed', async (t) => {
  const { server, session } = await connected(t, data, { welcome: { limits: { maxInlineBytes: 4_096 } } })
  server.failingPuts = 1
  const ref = session.give('large', { bytes: 200_000 })
  const { value } = await session.next('result')
  assert.equal(value?.content.case, 'blob')
  const stored = server.blobs.get((value.content.value as { digest: string }).digest)
  assert.equal(stored?.toString(), JSON.stringify('x'.repeat(200_000)))
  assert.equal(server.uploads.length, 2)
  assert.deepEqual(server.uploads[0]?.ref, ref)
  assert.equal(server.uploads[0]?.mediaType, 'application/json')
  session.give('large', { bytes: 4_000 })
  assert.equal((await session.next('result')).value?.content.case, 'json')
})

test('a value above the blob limit, and evidence above a frame, fail the task', async (t) => {
  const { server, session } = await connected(
    t,
    (agent) => {
      data(agent)
      agent.capability('wordy', () => result(1, { evidence: [{ kind: 'k', summary: 'y'.repeat(2_000_000) }] }))
    },
    { welcome: { limits: { maxInlineBytes: 4_096, maxBlobBytes: 50_000n } } },
  )
  session.give('large', { bytes: 60_000 })
  assert.equal((await session.next('failed')).code, 'result_too_large')
  assert.equal(server.uploads.length, 0)
  session.give('wordy', null)
  assert.equal((await session.next('failed')).code, 'result_too_large')
})

test('evidence may carry a file', async (t) => {
  const { server, session } = await connected(t, (agent) => {
    const attachment = { bytes: Buffer.from('PNG'), mediaType: 'image/png' }
    agent.capability('shot', () => result(1, { evidence: [{ kind: 'screen', summary: 's', detail: { w: 1 }, attachment }] }))
  })
  session.give('shot', null)
  const [evidence] = (await session.next('result')).evidence
  assert.equal(Buffer.from(evidence?.detailJson ?? []).toString(), '{"w":1}')
  assert.equal(server.blobs.get(evidence?.blob?.digest ?? '')?.toString(), 'PNG')
})

test('an input by blob is fetched and checked', async (t) => {
  const { server, session } = await connected(t, data)
  const blob = server.keep(Buffer.from(JSON.stringify('y'.repeat(200_000))))
  const by = (ref: typeof blob) => ({ input: create(PayloadSchema, { content: { case: 'blob', value: ref } }) })
  session.give('size', null, by(blob))
  assert.equal(await session.value(), 200_000)

  server.blobs.set(blob.digest, Buffer.from('"tampered"'))
  session.give('size', null, by(blob))
  const tampered = await session.next('failed')
  assert.deepEqual([tampered.code, tampered.retryable], ['input_unavailable', true])
  assert.match(tampered.message, /arrived as sha256:/)

  session.give('size', null, by(create(BlobRefSchema, { digest: 'sha256:none', sizeBytes: 1n })))
  assert.equal((await session.next('failed')).code, 'input_unavailable')
  session.give('size', 'alive')
  assert.equal(await session.value(), 5)
})
