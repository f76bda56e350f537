import { SYMBOLS } from './lexicon.js'

/** A word, a picture or a mark, with its place in the text. */
export interface Token {
  readonly kind: 'word' | 'symbol' | 'mark'
  /** As it was written. */
  readonly text: string
  /** Lower case, contractions undone, lengthened letters shortened. */
  readonly norm: string
  /** Offsets in UTF-16 code units, as JavaScript strings count. */
  readonly start: number
  readonly end: number
  /** Written in capitals where the text around is not. */
  readonly shouted: boolean
  /** Letters were lengthened: "sooo". */
  readonly stretched: boolean
}

const EMOTICONS = [...SYMBOLS.keys()]
  .filter((symbol) => /^[\x20-\x7e]+$/.test(symbol))
  .sort((a, b) => b.length - a.length)
  .map((symbol) => symbol.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'))
  .join('|')

const TOKEN = new RegExp(
  [
    // A link is not an opinion, whatever words are in it.
    String.raw`(?<link>https?:\/\/\S+)`,
    String.raw`(?<face>(?<![\w:])(?:${EMOTICONS})(?!\w))`,
    String.raw`(?<emoji>\p{Extended_Pictographic}\uFE0F?)`,
    String.raw`(?<word>\p{L}[\p{L}\p{M}]*(?:['’\-]\p{L}+)*)`,
    String.raw`(?<mark>[.!?;,\n]+)`,
  ].join('|'),
  'gu',
)

/** Splits a text; what is neither word, picture nor mark is left out. */
export function tokenize(text: string): Token[] {
  const letters = text.replace(/[^\p{L}]/gu, '')
  const allCapitals = letters === letters.toUpperCase()
  const tokens: Token[] = []
  for (const match of text.matchAll(TOKEN)) {
    const { face, emoji, word, mark } = match.groups ?? {}
    const place = { text: match[0], start: match.index, end: match.index + match[0].length }
    if (word !== undefined) {
      tokens.push(...words(word, place, allCapitals))
    } else if (face !== undefined || emoji !== undefined) {
      tokens.push({ kind: 'symbol', norm: match[0], shouted: false, stretched: false, ...place })
    } else if (mark !== undefined) {
      tokens.push({ kind: 'mark', norm: mark.includes('\n') ? '.' : mark, shouted: false, stretched: false, ...place })
    }
  }
  return tokens
}

/** "can't" is two words: "can" and "not". */
function words(word: string, place: Pick<Token, 'end' | 'start' | 'text'>, allCapitals: boolean): Token[] {
  const lower = word.toLowerCase().replaceAll('’', "'")
  const short = lower.replace(/(\p{L})\1{2,}/gu, '$1$1')
  const shape = {
    kind: 'word' as const,
    shouted: !allCapitals && word.length > 2 && word === word.toUpperCase(),
    stretched: short !== lower,
    ...place,
  }
  if (short === 'cannot' || short === 'cant') {
    return [{ ...shape, norm: 'can' }, { ...shape, norm: 'not' }]
  }
  const contraction = /^(\p{L}+?)n'?t$/u.exec(short)
  if (contraction !== null && /^(?:ca|wo|do|did|does|is|was|are|were|has|have|had|could|would|should|must|ai)$/.test(contraction[1] ?? '')) {
    const stem = contraction[1] === 'ca' ? 'can' : contraction[1] === 'wo' ? 'will' : (contraction[1] ?? '')
    return [{ ...shape, norm: stem }, { ...shape, norm: 'not' }]
  }
  return [{ ...shape, norm: short.replace(/'s$/, '') }]
}
