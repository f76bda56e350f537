import { randomUUID } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { pipeline, Readable } from 'node:stream'
import { createGzip } from 'node:zlib'

import type { DeployOptions } from './client.js'
import type { ApiRequest } from './http.js'
import { tarOf } from './tar.js'
import { type DeploySpec, specDocument } from './types.js'

/** A large source takes a while to be checked after its last byte. */
const SILENCE_MS = 120_000

/** The request that uploads a source; its path is the caller's to say. */
export async function upload(source: string, spec: DeploySpec, options: DeployOptions): Promise<Omit<ApiRequest, 'path'>> {
  const archive = (await stat(source)).isDirectory() ? packed(source, options.ignore) : createReadStream(source)
  const boundary = `parallax-${randomUUID()}`
  return {
    method: 'POST',
    headers: { 'content-type': `multipart/form-data; boundary=${boundary}`, 'idempotency-key': randomUUID() },
    body: Readable.from(multipart(boundary, specDocument(spec), archive)),
    signal: options.signal,
    silenceMs: SILENCE_MS,
  }
}

function packed(folder: string, ignore: readonly string[] = []): Readable {
  const gzip = createGzip()
  // An error on the way destroys gzip with it, and its reader sees it.
  pipeline(Readable.from(tarOf(folder, new Set(ignore))), gzip, () => undefined)
  return gzip
}

/** The server checks the spec before it reads the source, so that is the order. */
async function* multipart(boundary: string, spec: object, archive: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const part = (disposition: string, type: string): string =>
    `--${boundary}\r\ncontent-disposition: form-data; ${disposition}\r\ncontent-type: ${type}\r\n\r\n`
  yield Buffer.from(`${part('name="spec"', 'application/json')}${JSON.stringify(spec)}\r\n`)
  yield Buffer.from(part('name="source"; filename="source.tar.gz"', 'application/gzip'))
  yield* archive
  yield Buffer.from(`\r\n--${boundary}--\r\n`)
}
