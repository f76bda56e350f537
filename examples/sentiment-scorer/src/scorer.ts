import { confidenceOf } from './calibration.js'
import { CONTRASTS, DEGREES, NEGATORS, PHRASES_BY_FIRST, SYMBOLS, UNREAL, WORDS } from './lexicon.js'
import { type Token, tokenize } from './tokens.js'

export type Label = 'positive' | 'negative' | 'neutral'

/** A word, phrase or picture that took part in the decision. */
export interface Finding {
  readonly text: string
  /** Offsets in UTF-16 code units. */
  readonly start: number
  readonly end: number
  /** What it adds to the sum, after all rules. */
  readonly valence: number
  /** What changed it, in order: `negated`, `stronger`, `weaker`, `shouted`, `stretched`, `unreal`, `before but`, `after but`. */
  readonly rules: readonly string[]
}

export interface Sentiment {
  /** From -1 to 1. */
  readonly score: number
  readonly label: Label
  /** How likely the label is right, from 0 to 1; see calibration.ts. */
  readonly confidence: number
  /** The strongest first. */
  readonly findings: readonly Finding[]
}

/** Scores nearer to 0 are neutral. */
const NEUTRAL_BELOW = 0.12
/** Makes scores of long texts approach, and never reach, 1. */
const NORMALISER = 15
/** A negation turns a word around and takes some of its strength: "not great" is milder than "bad". */
const NEGATION = -0.74
/** What did not come true is a mild reproach, or a mild praise. */
const UNREALITY = -0.5
/** So many words before a word can change it. */
const REACH = 3
/** What is left of a degree word's effect one, two and three words away. */
const DEGREE_DECAY = [1, 0.95, 0.9]
const SHOUTING = 0.7
const STRETCHING = 0.4
const EXCLAMATION = 0.29
const MAX_EXCLAMATIONS = 4
/** Before a "but" the speaker concedes, behind it he means it. */
const BEFORE_CONTRAST = 0.5
const AFTER_CONTRAST = 1.5

interface Hit {
  readonly at: number
  readonly length: number
  readonly base: number
}

/** Scores an English text by its words and the rules around them. */
export function scoreText(text: string): Sentiment {
  const tokens = tokenize(text)
  const findings = hits(tokens).map((hit) => finding(text, tokens, hit))
  const sum = findings.reduce((total, { valence }) => total + valence, 0)
  const emphasised = sum + Math.sign(sum) * emphasis(tokens)
  const score = round(emphasised / Math.sqrt(emphasised * emphasised + NORMALISER))
  const label = Math.abs(score) < NEUTRAL_BELOW ? 'neutral' : score > 0 ? 'positive' : 'negative'
  return {
    score,
    label,
    confidence: confidenceOf(label, score, findings),
    findings: findings.sort((a, b) => Math.abs(b.valence) - Math.abs(a.valence) || a.start - b.start),
  }
}

/** Where the lexicon has something to say; phrases win over their words. */
function hits(tokens: readonly Token[]): Hit[] {
  const found: Hit[] = []
  for (let at = 0; at < tokens.length; ) {
    const hit = phraseAt(tokens, at) ?? wordAt(tokens, at)
    if (hit !== undefined) {
      found.push(hit)
    }
    at += hit?.length ?? 1
  }
  return found
}

function phraseAt(tokens: readonly Token[], at: number): Hit | undefined {
  for (const { words, valence } of PHRASES_BY_FIRST.get(tokens[at]?.norm ?? '') ?? []) {
    if (words.every((word, offset) => tokens[at + offset]?.norm === word)) {
      return { at, length: words.length, base: valence }
    }
  }
  return undefined
}

function wordAt(tokens: readonly Token[], at: number): Hit | undefined {
  const token = tokens[at]
  if (token?.kind === 'symbol') {
    const base = SYMBOLS.get(token.norm)
    return base === undefined ? undefined : { at, length: 1, base }
  }
  if (token?.kind !== 'word' || isComparison(tokens, at)) {
    return undefined
  }
  const base = WORDS.get(token.norm) ?? (token.stretched ? WORDS.get(squeeze(token.norm)) : undefined)
  return base === undefined ? undefined : { at, length: 1, base }
}

/** "looks like rain", "as well as": no praise in it. */
function isComparison(tokens: readonly Token[], at: number): boolean {
  const before = tokens[at - 1]?.norm ?? ''
  switch (tokens[at]?.norm) {
    case 'like':
      return /^(?:look|looks|looked|feel|feels|felt|sound|sounds|sounded|taste|tastes|smells|seems|is|was|just|more|nothing|something|stuff)$/.test(before)
    case 'well':
      return before === 'as' || tokens[at + 1]?.norm === 'as' || tokens[at + 1]?.norm === ','
    case 'less':
      return DEGREES.has('less') && WORDS.has(tokens[at + 1]?.norm ?? '')
    default:
      return false
  }
}

function finding(text: string, tokens: readonly Token[], { at, length, base }: Hit): Finding {
  const rules: string[] = []
  let valence = base
  const from = degree(tokens, at)
  if (from !== 0) {
    valence += Math.sign(base) * from * Math.abs(base)
    rules.push(from > 0 ? 'stronger' : 'weaker')
  }
  const token = tokens[at]
  if (token?.shouted) {
    valence += Math.sign(base) * SHOUTING
    rules.push('shouted')
  }
  if (token?.stretched) {
    valence += Math.sign(base) * STRETCHING
    rules.push('stretched')
  }
  const negation = negationBefore(tokens, at)
  if (negation !== undefined) {
    valence *= NEGATION
    rules.push('negated')
  }
  if (negation === undefined && isUnreal(tokens, at)) {
    valence *= UNREALITY
    rules.push('unreal')
  }
  const contrast = contrastAround(tokens, at)
  if (contrast !== undefined) {
    valence *= contrast === 'before but' ? BEFORE_CONTRAST : AFTER_CONTRAST
    rules.push(contrast)
  }
  const start = tokens[negation ?? at]?.start ?? 0
  const end = tokens[at + length - 1]?.end ?? start
  return { text: text.slice(start, end), start, end, valence: round(valence), rules }
}

/** The effect of "very", "slightly" and their like on the word at `at`. */
function degree(tokens: readonly Token[], at: number): number {
  let effect = 0
  for (const { token, distance } of reach(tokens, at)) {
    const strength = DEGREES.get(token.norm) ?? (token.stretched ? DEGREES.get(squeeze(token.norm)) : undefined)
    // Negated, "very" says less than it says: "not very good".
    if (strength !== undefined && negationBefore(tokens, at - distance) === undefined) {
      effect += strength * (DEGREE_DECAY[distance - 1] ?? 0)
    }
  }
  return effect
}

/** Where the negation stands that governs the word at `at`. */
function negationBefore(tokens: readonly Token[], at: number): number | undefined {
  for (const { token, distance } of reach(tokens, at)) {
    const next = tokens[at - distance + 1]?.norm
    // "not only good" and "no doubt good" negate nothing.
    const idle = (token.norm === 'not' && (next === 'only' || next === 'just')) || (token.norm === 'no' && next === 'doubt')
    if (NEGATORS.has(token.norm) && !idle && !WORDS.has(token.norm)) {
      return at - distance
    }
  }
  return undefined
}

function isUnreal(tokens: readonly Token[], at: number): boolean {
  const before = [...reach(tokens, at)].map(({ token }) => token.norm).reverse()
  return UNREAL.some(([first, second]) => before.some((word, index) => word === first && before[index + 1] === second))
}

/** The words before `at` in the same clause, the nearest first. */
function* reach(tokens: readonly Token[], at: number): Generator<{ token: Token; distance: number }> {
  for (let distance = 1; distance <= REACH; distance += 1) {
    const token = tokens[at - distance]
    if (token === undefined || token.kind !== 'word' || CONTRASTS.has(token.norm)) {
      return
    }
    yield { token, distance }
  }
}

/** Which side of its sentence's contrast the word at `at` is on. */
function contrastAround(tokens: readonly Token[], at: number): 'before but' | 'after but' | undefined {
  const ends = (token: Token | undefined): boolean => token === undefined || (token.kind === 'mark' && /[.!?;]/.test(token.norm))
  for (let before = at - 1; !ends(tokens[before]); before -= 1) {
    const word = tokens[before]?.norm ?? ''
    if (CONTRASTS.has(word)) {
      // At the head of a sentence, "although" concedes its own clause.
      const concedes = /^(?:although|though)$/.test(word) && ends(tokens[before - 1])
      return concedes && !commaBetween(tokens, before, at) ? 'before but' : 'after but'
    }
  }
  for (let after = at + 1; !ends(tokens[after]); after += 1) {
    const word = tokens[after]?.norm ?? ''
    if (CONTRASTS.has(word) && !/^(?:although|though|yet)$/.test(word)) {
      return 'before but'
    }
  }
  return undefined
}

function commaBetween(tokens: readonly Token[], from: number, to: number): boolean {
  return tokens.slice(from, to).some(({ norm }) => norm.startsWith(','))
}

function emphasis(tokens: readonly Token[]): number {
  const marks = tokens.filter(({ kind }) => kind === 'mark').reduce((all, { norm }) => all + norm.replace(/[^!]/g, '').length, 0)
  return Math.min(marks, MAX_EXCLAMATIONS) * EXCLAMATION
}

/** "goood" is shortened to "good" by the tokenizer; "loove" needs one letter less. */
function squeeze(word: string): string {
  return word.replace(/(\p{L})\1+/gu, '$1')
}

function round(value: number): number {
  return Math.round(value * 1_000) / 1_000
}
