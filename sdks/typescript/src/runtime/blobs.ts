import { createHash } from 'node:crypto'

import { create } from '@bufbuild/protobuf'
import { type BlobChunk, GetBlobRequestSchema, type PutBlobRequest, PutBlobRequestSchema } from '../gen/parallax/v1/blobs_pb.js'
import type { BlobRef, TaskRef } from '../gen/parallax/v1/common_pb.js'
import type { Channel } from './channel.js'
import { GET_BLOB, PUT_BLOB } from './wire.js'

/** The protocol's cap for one chunk: larger ones would hold up the session beside them. */
const CHUNK_BYTES = 64 * 1024
/** How long one transfer may take: 64 MiB at about 1 MiB/s. */
const TRANSFER_TIMEOUT_MS = 60_000

/** Stores bytes by digest and returns their name. Rejects with the gRPC error. */
export async function putBlob(channel: Channel, ref: TaskRef, bytes: Uint8Array, mediaType: string): Promise<BlobRef> {
  const digest = digestOf(bytes)
  const metadata = await channel.metadata()
  return new Promise((resolve, reject) => {
    const { path, requestSerialize, responseDeserialize } = PUT_BLOB
    const call = channel.client.makeClientStreamRequest(
      path,
      requestSerialize,
      responseDeserialize,
      metadata,
      { deadline: Date.now() + TRANSFER_TIMEOUT_MS },
      (error, stored) => {
        if (error !== null) {
          reject(error)
        } else if (stored?.digest !== digest) {
          reject(new Error(`the server stored ${stored?.digest ?? 'nothing'} in place of ${digest}`))
        } else {
          resolve(stored)
        }
      },
    )
    const header = { ref, digest, sizeBytes: BigInt(bytes.byteLength), mediaType }
    call.write(put({ case: 'header', value: header }))
    writeChunks(bytes, (chunk) => call.write(put({ case: 'chunk', value: chunk })), call)
  })
}

/**
 * Fetches a value and checks it against its name.
 *
 * @throws Error when the size or the digest differs; the gRPC error when the call fails.
 */
export async function getBlob(channel: Channel, ref: TaskRef, blob: BlobRef, signal: AbortSignal): Promise<Uint8Array> {
  signal.throwIfAborted()
  const { path, requestSerialize, responseDeserialize } = GET_BLOB
  const call = channel.client.makeServerStreamRequest(
    path,
    requestSerialize,
    responseDeserialize,
    create(GetBlobRequestSchema, { ref, digest: blob.digest, offset: 0n }),
    await channel.metadata(),
    { deadline: Date.now() + TRANSFER_TIMEOUT_MS },
  )
  const abort = (): void => call.cancel()
  signal.addEventListener('abort', abort, { once: true })
  try {
    const chunks: Uint8Array[] = []
    let size = 0
    for await (const { data } of call as AsyncIterable<BlobChunk>) {
      size += data.byteLength
      if (size > blob.sizeBytes) {
        throw new Error(`blob ${blob.digest} is longer than the ${blob.sizeBytes} bytes it was announced with`)
      }
      chunks.push(data)
    }
    return checked(Buffer.concat(chunks), blob.digest)
  } finally {
    signal.removeEventListener('abort', abort)
  }
}

interface Outgoing {
  once(event: 'drain', listener: () => void): unknown
  end(): unknown
}

/** Writes as fast as the connection takes it, never holding a second copy of it all. */
function writeChunks(bytes: Uint8Array, write: (chunk: Uint8Array) => boolean, call: Outgoing): void {
  let at = 0
  const more = (): void => {
    while (at < bytes.byteLength) {
      const goOn = write(bytes.subarray(at, at + CHUNK_BYTES))
      at += CHUNK_BYTES
      if (!goOn) {
        call.once('drain', more)
        return
      }
    }
    call.end()
  }
  more()
}

function put(part: PutBlobRequestPart): PutBlobRequest {
  return create(PutBlobRequestSchema, { part })
}

type PutBlobRequestPart =
  | { case: 'header'; value: { ref: TaskRef; digest: string; sizeBytes: bigint; mediaType: string } }
  | { case: 'chunk'; value: Uint8Array }

function checked(bytes: Uint8Array, digest: string): Uint8Array {
  const actual = digestOf(bytes)
  if (actual !== digest) {
    throw new Error(`blob ${digest} arrived as ${actual}`)
  }
  return bytes
}

function digestOf(bytes: Uint8Array): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`
}
