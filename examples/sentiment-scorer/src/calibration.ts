import type { Finding, Label } from './scorer.js'

/**
 * Weights of a logistic model of "the label is right", fitted by
 * `npm run calibrate` on the labelled sentences of test/labelled.ts.
 */
const WEIGHTS: Readonly<Record<keyof Features, number>> = {
  bias: -0.48,
  margin: 3.64,
  support: 2.31,
  silence: 0.94,
}

/** The model has seen short sentences only, so it never claims more, or less, than this. */
const FLOOR = 0.34
const CEILING = 0.97

/** What the model looks at. */
export interface Features {
  readonly bias: number
  /** How far the score is inside its label: 0 at the border, 1 at the end. */
  readonly margin: number
  /** How many findings speak for the label beyond the first, up to two. */
  readonly support: number
  /** 1 when no word is known at all: neutral by ignorance. */
  readonly silence: number
}

/** How likely the label is right, from 0 to 1. */
export function confidenceOf(label: Label, score: number, findings: readonly Finding[]): number {
  const features = featuresOf(label, score, findings)
  const names = Object.keys(features) as (keyof Features)[]
  const logit = names.reduce((sum, name) => sum + WEIGHTS[name] * features[name], 0)
  const probability = 1 / (1 + Math.exp(-logit))
  return Math.round(Math.min(CEILING, Math.max(FLOOR, probability)) * 1_000) / 1_000
}

export function featuresOf(label: Label, score: number, findings: readonly Finding[]): Features {
  const agreeing = findings.filter(({ valence }) => Math.sign(valence) === Math.sign(score)).length
  return {
    bias: 1,
    margin: label === 'neutral' ? 0 : Math.abs(score),
    support: label === 'neutral' ? 0 : Math.min(2, Math.max(0, agreeing - 1)),
    silence: findings.length === 0 ? 1 : 0,
  }
}
