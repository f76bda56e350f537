import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'

import { VERSION } from '../src/index.js'

test('the version that Hello tells is the package\'s', () => {
  const manifest = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string }
  assert.equal(VERSION, manifest.version)
})

test('the lock file names no registry and no path of a machine', () => {
  const lock = readFileSync(new URL('../../package-lock.json', import.meta.url), 'utf8')
  assert.doesNotMatch(lock, /"resolved"|https?:\/\/(?!.*(fund|sponsor|opencollective|github))|file:\/|\/home\/|\/root\//)
})
