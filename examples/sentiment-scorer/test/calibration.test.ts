import assert from 'node:assert/strict'
import { test } from 'node:test'

import { scoreText } from '../src/scorer.js'
import { LABELLED } from './labelled.js'

const outcomes = LABELLED.map(({ text, label }) => {
  const scored = scoreText(text)
  return { confidence: scored.confidence, right: scored.label === label ? 1 : 0 }
})
const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length

test('most labels of the hard sentences are right', () => {
  const accuracy = mean(outcomes.map(({ right }) => right))
  assert.ok(accuracy >= 0.7, `${accuracy}`)
})

test('of the labels with a confidence of p, about p are right', () => {
  const bins = [
    { from: 0, to: 0.7 },
    { from: 0.7, to: 0.9 },
    { from: 0.9, to: 1 },
  ]
  for (const { from, to } of bins) {
    const inside = outcomes.filter(({ confidence }) => confidence >= from && confidence < to)
    const [claimed, observed] = [mean(inside.map(({ confidence }) => confidence)), mean(inside.map(({ right }) => right))]
    assert.ok(inside.length >= 10, `${from}–${to} has ${inside.length} sentences`)
    assert.ok(Math.abs(claimed - observed) <= 0.12, `${from}–${to}: claimed ${claimed}, observed ${observed}`)
  }
})

test('the confidence knows more than the average does', () => {
  const base = mean(outcomes.map(({ right }) => right))
  const brier = mean(outcomes.map(({ confidence, right }) => (confidence - right) ** 2))
  const uninformed = mean(outcomes.map(({ right }) => (base - right) ** 2))
  assert.ok(brier < 0.9 * uninformed, `${brier} against ${uninformed}`)
})

test('a confidence never claims certainty, nor less than a guess', () => {
  for (const text of ['', 'excellent '.repeat(100), 'good bad', 'awful']) {
    const { confidence } = scoreText(text)
    assert.ok(confidence >= 0.34 && confidence <= 0.97, `${text}: ${confidence}`)
  }
})
