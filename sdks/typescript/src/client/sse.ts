import { StringDecoder } from 'node:string_decoder'

import { messageOf } from '../errors.js'

/** The largest entry is an inline answer with its evidence; this bounds what a broken server can make us keep. */
const MAX_EVENT_CHARS = 4 * 1024 * 1024

/** One server-sent event whose data is JSON. */
export interface ServerEvent {
  /** Where to go on after it: `Last-Event-ID`. Empty where the server gave none. */
  readonly id: string
  readonly data: unknown
}

/** Reads server-sent events as <https://html.spec.whatwg.org/multipage/server-sent-events.html> has them. */
export async function* serverEvents(bytes: AsyncIterable<Uint8Array>): AsyncGenerator<ServerEvent> {
  let id = ''
  let data: string[] = []
  for await (const line of lines(bytes)) {
    if (line === '') {
      if (data.length > 0) {
        yield { id, data: parse(data.join('\n')) }
      }
      data = []
      continue
    }
    const colon = line.indexOf(':')
    const field = colon < 0 ? line : line.slice(0, colon)
    const value = colon < 0 ? '' : line.slice(line[colon + 1] === ' ' ? colon + 2 : colon + 1)
    if (field === 'data') {
      data.push(value)
    } else if (field === 'id') {
      id = value
    }
    // Comments are signs of life; `event` repeats the `type` within the data.
  }
}

/** Lines without their ends. What follows the last end is no line: the stream broke there. */
async function* lines(bytes: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  const decoder = new StringDecoder('utf8')
  let rest = ''
  for await (const chunk of bytes) {
    const parts = (rest + decoder.write(Buffer.from(chunk))).split('\n')
    rest = parts.pop() ?? ''
    if (rest.length > MAX_EVENT_CHARS) {
      throw new Error(`an event is longer than ${MAX_EVENT_CHARS} characters`)
    }
    for (const part of parts) {
      yield part.endsWith('\r') ? part.slice(0, -1) : part
    }
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new Error(`an event is not JSON: ${messageOf(error)}`)
  }
}
