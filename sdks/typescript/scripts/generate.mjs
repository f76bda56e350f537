// Writes src/gen from ../../proto and ../../openapi. Started by `npm run generate`,
// which brings buf and protoc-gen-es; no protoc is needed. With `--check` it
// compares and changes nothing.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

import { apiTypes } from './api-types.mjs'

const protos = fileURLToPath(new URL('../../../proto', import.meta.url))
const openapi = fileURLToPath(new URL('../../../openapi/parallax-v1.json', import.meta.url))
const committed = fileURLToPath(new URL('../src/gen', import.meta.url))
// The agent side needs these; callers use HTTP.
const wanted = ['agents', 'blobs', 'common'].map((name) => `parallax/v1/${name}.proto`)

const check = process.argv.includes('--check')
const out = check ? mkdtempSync(join(tmpdir(), 'parallax-gen-')) : committed
try {
  generate(out)
  if (check) {
    compare(out, committed)
  }
} finally {
  if (check) {
    rmSync(out, { recursive: true })
  }
}

/** @param {string} out */
function generate(out) {
  const template = JSON.stringify({
    version: 'v2',
    plugins: [{ local: 'protoc-gen-es', out, opt: ['target=ts', 'import_extension=js'] }],
    inputs: [{ directory: protos, paths: wanted.map((path) => join(protos, path)) }],
  })
  rmSync(join(out, 'parallax'), { recursive: true, force: true })
  const { status, error } = spawnSync('buf', ['generate', '--template', template], { stdio: 'inherit' })
  if (error || status !== 0) {
    throw new Error(`buf generate failed: ${error?.message ?? `exit code ${status}`}`)
  }
  writeFileSync(join(out, 'api.ts'), apiTypes(openapi))
}

/** @param {string} fresh @param {string} committed */
function compare(fresh, committed) {
  const [now, then] = [fresh, committed].map((root) =>
    readdirSync(root, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath ?? entry.path, entry.name))
      .map((path) => [path.slice(root.length + 1), readFileSync(path, 'utf8')])
      .sort(),
  )
  if (JSON.stringify(now) !== JSON.stringify(then)) {
    console.error('src/gen is out of date: run `npm run generate` in sdks/typescript and commit the result')
    process.exitCode = 1
  }
}
