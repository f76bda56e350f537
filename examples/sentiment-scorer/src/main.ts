import { Agent, type Evidence, result } from '@parallax/sdk'

import { scoreBatch } from './batch.js'
import { type Finding, scoreText } from './scorer.js'

/** A caller sees the words that weigh most; the rest adds little. */
const MAX_EVIDENCE = 8
/** 20 000 characters are a long review; a book belongs into a batch of its paragraphs. */
const MAX_TEXT = 20_000
const MAX_BATCH = 10_000

const text = { type: 'string', maxLength: MAX_TEXT }

const agent = new Agent({ name: process.env['PARALLAX_AGENT_NAME'] ?? 'sentiment-scorer' })

agent.capability<{ text: string }, object>(
  'score',
  {
    description: 'Scores the sentiment of an English text from -1 to 1 and names the words that decided.',
    version: '1.0.0',
    idempotent: true,
    inputSchema: { type: 'object', required: ['text'], properties: { text }, additionalProperties: false },
  },
  (input) => {
    const { score, label, confidence, findings } = scoreText(input.text)
    return result({ score, label, words: findings.length }, { confidence, evidence: findings.slice(0, MAX_EVIDENCE).map(evidence) })
  },
)

agent.capability<{ texts: string[] }, object>(
  'score-batch',
  {
    description: 'Scores up to 10 000 texts; each score leaves early as a line of JSON, the value sums them up.',
    version: '1.0.0',
    idempotent: true,
    maxConcurrency: 2,
    inputSchema: {
      type: 'object',
      required: ['texts'],
      properties: { texts: { type: 'array', items: text, maxItems: MAX_BATCH } },
      additionalProperties: false,
    },
  },
  (input, ctx) => scoreBatch(input.texts, ctx),
)

await agent.run()

function evidence({ text, start, end, valence, rules }: Finding): Evidence {
  const how = rules.length === 0 ? '' : ` (${rules.join(', ')})`
  const sign = valence > 0 ? '+' : ''
  return { kind: 'word', summary: `"${text}" ${sign}${valence}${how}`, detail: { text, start, end, valence, rules } }
}
