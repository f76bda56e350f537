import assert from 'node:assert/strict'
import { test } from 'node:test'

import { scoreText } from '../src/scorer.js'
import { tokenize } from '../src/tokens.js'

const score = (text: string): number => scoreText(text).score

/** The first text scores above the second. */
function above(more: string, less: string): void {
  assert.ok(score(more) > score(less), `${more} (${score(more)}) > ${less} (${score(less)})`)
}

test('praise is positive, blame negative, a fact neutral', () => {
  assert.equal(scoreText('A wonderful day').label, 'positive')
  assert.equal(scoreText('A horrible day').label, 'negative')
  assert.equal(scoreText('A day').label, 'neutral')
})

test('a score stays within -1 and 1, however long the text', () => {
  assert.ok(score('excellent! '.repeat(5_000)) <= 1)
  assert.ok(score('awful! '.repeat(5_000)) >= -1)
  assert.equal(score(''), 0)
})

test('a negation turns a word around and leaves it milder', () => {
  above('good', 'not good')
  above('not good', 'awful')
  assert.ok(score('not bad') > 0)
  assert.ok(score("isn't helpful") < 0)
  assert.ok(score('I don’t love it') < 0)
  assert.ok(score('without any problems') > 0)
})

test('a negation ends with its clause, and "not only" negates nothing', () => {
  assert.ok(score('No. Great idea.') > 0)
  assert.ok(score('Not cheap, beautiful though.') > 0)
  assert.ok(score('not only good') > 0)
})

test('degree words strengthen and weaken', () => {
  above('extremely good', 'good')
  above('good', 'slightly good')
  above('bad', 'very bad')
})

test('capitals, lengthened words and exclamation marks strengthen', () => {
  above('it is GREAT here', 'it is great here')
  above('goooood', 'good')
  above('good!!!', 'good')
  above('bad', 'bad!!!')
  assert.equal(score('GREAT'), score('great'))
})

test('after "but" the speaker says what counts', () => {
  assert.ok(score('The food was good, but the service was bad.') < 0)
  assert.ok(score('The service was bad, but the food was good.') > 0)
  assert.ok(score('Although the cover is ugly, the book is nice.') > 0)
})

test('what did not come true counts against it', () => {
  assert.ok(score('It could have been great.') < 0)
  assert.ok(score('I wanted to like it.') < 0)
})

test('emoticons and emoji count', () => {
  assert.ok(score('the package came :)') > 0)
  assert.ok(score('the package came :(') < 0)
  assert.ok(score('the package came 😍') > 0)
  assert.ok(score('the package came ❤️') > 0)
  assert.equal(score('at 12:30 (see http://good.example/bad)'), 0)
})

test('phrases win over their words', () => {
  assert.ok(score('a waste of time') < 0)
  assert.ok(score('no problem') > 0)
  assert.ok(score("I can't recommend this enough") > 0)
  assert.equal(score('it looks like a bank'), 0)
})

test('findings name the words that decided, where they are, and why', () => {
  const text = 'The room was not very clean, but I LOVED the view.'
  const { findings } = scoreText(text)
  assert.deepEqual(
    findings.map(({ text, rules }) => [text, rules]),
    [
      ['LOVED', ['shouted', 'after but']],
      ['not very clean', ['negated', 'before but']],
    ],
  )
  for (const finding of findings) {
    assert.equal(text.slice(finding.start, finding.end), finding.text)
  }
})

test('a token keeps its place in a text with emoji and accents', () => {
  const text = 'Señor 👩‍👧 naïve café!'
  for (const { start, end, text: written } of tokenize(text)) {
    assert.equal(text.slice(start, end), written)
  }
})

test('a hostile text costs no more than its length', () => {
  for (const piece of ['but ', 'not ', "a'", ':', '!', 'é', 'o', 'no no ']) {
    assert.ok(Math.abs(score(piece.repeat(20_000 / piece.length))) <= 1)
  }
})
