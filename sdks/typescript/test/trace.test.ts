import assert from 'node:assert/strict'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

import { create } from '@bufbuild/protobuf'
import { status } from '@grpc/grpc-js'

import { TaskContextSchema } from '../src/gen/parallax/v1/common_pb.js'
import { stderrLogger } from '../src/index.js'
import { connected } from './support/stage.js'

const HERE = dirname(fileURLToPath(import.meta.url))
const TRACEPARENT = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'

/** As much of OpenTelemetry as shows that the handler ran within the extracted context. */
const OPENTELEMETRY = `
let active = 'nothing'
export const context = { active: () => active, with(next, work) { active = next; return work() } }
export const propagation = { extract: (_, carrier) => \`\${carrier.traceparent} \${carrier.tracestate}\` }
`

test('a handler runs within its trace where the process has OpenTelemetry', async (t) => {
  const folder = join(HERE, '../node_modules/@opentelemetry/api')
  mkdirSync(folder, { recursive: true })
  t.after(() => rmSync(join(HERE, '../node_modules'), { recursive: true }))
  writeFileSync(join(folder, 'package.json'), '{"type":"module","exports":"./index.js"}')
  writeFileSync(join(folder, 'index.js'), OPENTELEMETRY)
  const name: string = '@opentelemetry/api'
  const { context } = (await import(name)) as { context: { active(): string } }
  const { session } = await connected(t, (agent) => {
    agent.capability('seen', (_input, { trace }) => [context.active(), trace.traceparent])
  })
  session.give('seen', null)
  assert.deepEqual(await session.value(), ['nothing', ''])
  session.give('seen', null, { context: create(TaskContextSchema, { traceparent: TRACEPARENT, tracestate: 'a=b' }) })
  assert.deepEqual(await session.value(), [`${TRACEPARENT} a=b`, TRACEPARENT])
})

test('a server that is not trusted is logged with what to set', async (t) => {
  const lines: string[] = []
  const info: typeof stderrLogger.info = (message, fields) => lines.push(`${message} ${JSON.stringify(fields)}`)
  const { server, session } = await connected(t, () => undefined, { logger: { ...stderrLogger, info } })
  session.fail(status.UNAVAILABLE, 'self-signed certificate in certificate chain')
  await server.connect()
  assert.match(lines.join('\n'), /connecting again.*set PARALLAX_CA_FILE/)
})
