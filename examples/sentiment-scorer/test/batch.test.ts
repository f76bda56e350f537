import assert from 'node:assert/strict'
import { test } from 'node:test'

import { type BatchContext, scoreBatch } from '../src/batch.js'

function recording(signal: AbortSignal = new AbortController().signal) {
  const fractions: (number | undefined)[] = []
  let lines = ''
  const ctx: BatchContext = {
    signal,
    progress: (fraction) => void fractions.push(fraction),
    partial: async (chunk) => void (lines += String(chunk)),
  }
  return { ctx, fractions, scores: () => lines.trim().split('\n').filter(Boolean).map((line) => JSON.parse(line) as { index: number; label: string }) }
}

test('a batch sends each score early and sums them up', async () => {
  const { ctx, fractions, scores } = recording()
  const texts = Array.from({ length: 250 }, (_, at) => (at === 7 ? 'awful' : at === 9 ? 'excellent' : 'a day'))
  const summary = await scoreBatch(texts, ctx)
  assert.deepEqual(summary.labels, { positive: 1, negative: 1, neutral: 248 })
  assert.deepEqual([summary.count, summary.most_positive, summary.most_negative], [250, 9, 7])
  assert.deepEqual(fractions, [0.4, 0.8, 1])
  assert.deepEqual(scores().map(({ index }) => index), texts.map((_, at) => at))
  assert.equal(scores()[7]?.label, 'negative')
})

test('an empty batch has an empty summary', async () => {
  const { ctx, fractions } = recording()
  const empty = { count: 0, labels: { positive: 0, negative: 0, neutral: 0 }, mean: 0, most_positive: null, most_negative: null }
  assert.deepEqual(await scoreBatch([], ctx), empty)
  assert.deepEqual(fractions, [])
})

test('a cancel ends a batch between two chunks', async () => {
  const cancel = new AbortController()
  const { ctx, fractions } = recording(cancel.signal)
  const stopping = { ...ctx, partial: async () => cancel.abort(new Error('enough')) }
  await assert.rejects(scoreBatch(Array.from({ length: 1_000 }, () => 'good'), stopping), /enough/)
  assert.deepEqual(fractions, [0.1])
})
