// Fits the weights of src/calibration.ts and prints them: `npm run calibrate`.
import { type Features, featuresOf } from '../src/calibration.js'
import { scoreText } from '../src/scorer.js'
import { LABELLED } from './labelled.js'

/** Small weights generalise better from so few sentences. */
const RIDGE = 0.001
const RATE = 0.5
const STEPS = 50_000

const samples = LABELLED.map(({ text, label }) => {
  const scored = scoreText(text)
  return { x: featuresOf(scored.label, scored.score, scored.findings), right: scored.label === label ? 1 : 0 }
})
const names = Object.keys(samples[0]?.x ?? {}) as (keyof Features)[]
const weights = Object.fromEntries(names.map((name) => [name, 0])) as Record<keyof Features, number>
for (let step = 0; step < STEPS; step += 1) {
  const gradient = Object.fromEntries(names.map((name) => [name, RIDGE * weights[name]])) as Record<keyof Features, number>
  for (const { x, right } of samples) {
    const logit = names.reduce((sum, name) => sum + weights[name] * x[name], 0)
    const error = 1 / (1 + Math.exp(-logit)) - right
    for (const name of names) {
      gradient[name] += (error * x[name]) / samples.length
    }
  }
  for (const name of names) {
    weights[name] -= RATE * gradient[name]
  }
}
for (const name of names) {
  console.log(`  ${name}: ${weights[name].toFixed(2)},`)
}
