import { setImmediate as breathe } from 'node:timers/promises'

import type { TaskContext } from '@parallax/sdk'

import { type Label, scoreText } from './scorer.js'

/** Texts between two reports; also between two looks at the cancellation. */
const CHUNK = 100

export interface BatchSummary {
  readonly count: number
  readonly labels: Readonly<Record<Label, number>>
  /** Of all scores; 0 for an empty batch. */
  readonly mean: number
  readonly most_positive: number | null
  readonly most_negative: number | null
}

/** What the batch needs of its task. */
export type BatchContext = Pick<TaskContext, 'partial' | 'progress' | 'signal'>

/**
 * Scores many texts. Each chunk's scores leave at once as lines of JSON, so
 * that a caller need not wait for the last; the value sums them up.
 */
export async function scoreBatch(texts: readonly string[], ctx: BatchContext): Promise<BatchSummary> {
  const labels = { positive: 0, negative: 0, neutral: 0 }
  const scores: number[] = []
  for (let from = 0; from < texts.length; from += CHUNK) {
    let lines = ''
    for (const text of texts.slice(from, from + CHUNK)) {
      const { score, label, confidence } = scoreText(text)
      lines += `${JSON.stringify({ index: scores.length, score, label, confidence })}\n`
      labels[label] += 1
      scores.push(score)
    }
    ctx.progress(scores.length / texts.length, `${scores.length} of ${texts.length} texts`)
    await ctx.partial(lines)
    // Lets a cancel in: scoring itself never waits for anything.
    await breathe()
    ctx.signal.throwIfAborted()
  }
  return {
    count: scores.length,
    labels,
    mean: scores.length === 0 ? 0 : Math.round((scores.reduce((a, b) => a + b, 0) / scores.length) * 1_000) / 1_000,
    most_positive: extreme(scores, (a, b) => a > b),
    most_negative: extreme(scores, (a, b) => a < b),
  }
}

/** The index of the first score that no other beats. */
function extreme(scores: readonly number[], beats: (a: number, b: number) => boolean): number | null {
  let best: number | null = null
  scores.forEach((score, at) => {
    if (best === null || beats(score, scores[best] ?? 0)) {
      best = at
    }
  })
  return best
}
