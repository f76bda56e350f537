import { create, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf'
import type { GenMessage } from '@bufbuild/protobuf/codegenv2'
import type { Message } from '@bufbuild/protobuf'
import type { MethodDefinition } from '@grpc/grpc-js'

import { type AgentDown, AgentDownSchema, type AgentUp, AgentUpSchema, type Limits } from '../gen/parallax/v1/agents_pb.js'
import {
  type BlobChunk,
  BlobChunkSchema,
  type GetBlobRequest,
  GetBlobRequestSchema,
  type PutBlobRequest,
  PutBlobRequestSchema,
} from '../gen/parallax/v1/blobs_pb.js'
import { type BlobRef, BlobRefSchema, type TaskRef } from '../gen/parallax/v1/common_pb.js'

/** The one version of the protocol that exists. */
export const PROTO_VERSION = 1

/** `AgentService.Session`. */
export const SESSION: MethodDefinition<AgentUp, AgentDown> = {
  path: '/parallax.v1.AgentService/Session',
  requestStream: true,
  responseStream: true,
  ...codec(AgentUpSchema, AgentDownSchema),
}

/** `BlobService.Put`. */
export const PUT_BLOB: MethodDefinition<PutBlobRequest, BlobRef> = {
  path: '/parallax.v1.BlobService/Put',
  requestStream: true,
  responseStream: false,
  ...codec(PutBlobRequestSchema, BlobRefSchema),
}

/** `BlobService.Get`. */
export const GET_BLOB: MethodDefinition<GetBlobRequest, BlobChunk> = {
  path: '/parallax.v1.BlobService/Get',
  requestStream: false,
  responseStream: true,
  ...codec(GetBlobRequestSchema, BlobChunkSchema),
}

/** One frame up, by its field's name. */
export type UpFrame = NonNullable<MessageInitShape<typeof AgentUpSchema>['frame']>

/** One frame down. */
export type DownFrame = AgentDown['frame']

/** What the server allows, in bytes and tasks. */
export interface SessionLimits {
  readonly maxFrameBytes: number
  readonly maxInlineBytes: number
  readonly maxBlobBytes: number
  readonly partialWindowBytes: number
  readonly maxCredit: number
}

/** The protocol's own caps, for limits that a server leaves at 0. */
export const DEFAULT_LIMITS: SessionLimits = {
  maxFrameBytes: 1024 * 1024,
  maxInlineBytes: 256 * 1024,
  maxBlobBytes: 64 * 1024 * 1024,
  partialWindowBytes: 256 * 1024,
  maxCredit: Number.MAX_SAFE_INTEGER,
}

export function limitsOf(limits: Limits | undefined): SessionLimits {
  return {
    maxFrameBytes: limits?.maxFrameBytes || DEFAULT_LIMITS.maxFrameBytes,
    maxInlineBytes: limits?.maxInlineBytes || DEFAULT_LIMITS.maxInlineBytes,
    maxBlobBytes: Number(limits?.maxBlobBytes ?? 0) || DEFAULT_LIMITS.maxBlobBytes,
    partialWindowBytes: limits?.partialWindowBytes || DEFAULT_LIMITS.partialWindowBytes,
    maxCredit: limits?.maxCredit || DEFAULT_LIMITS.maxCredit,
  }
}

export function upFrame(frame: UpFrame): AgentUp {
  return create(AgentUpSchema, { frame })
}

/** How many bytes the frame takes on the wire. */
export function frameBytes(frame: UpFrame): number {
  return toBinary(AgentUpSchema, upFrame(frame)).byteLength
}

/** Results bind to this pair, never to a connection. */
export function keyOf(ref: TaskRef): string {
  return `${ref.taskId}#${ref.attempt}`
}

function codec<Up extends Message, Down extends Message>(up: GenMessage<Up>, down: GenMessage<Down>) {
  return {
    requestSerialize: (message: Up) => Buffer.from(toBinary(up, message)),
    requestDeserialize: (bytes: Buffer) => fromBinary(up, bytes),
    responseSerialize: (message: Down) => Buffer.from(toBinary(down, message)),
    responseDeserialize: (bytes: Buffer) => fromBinary(down, bytes),
  }
}
