import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'

import { ApiError, Client, ConnectionError } from '../src/client/index.js'
import { ConfigError } from '../src/index.js'

type Handler = (request: IncomingMessage, body: Buffer, response: ServerResponse) => void

/** A real HTTP server that answers as the test says, and a client for it. */
async function serve(t: TestContext, handler: Handler): Promise<{ client: Client; folder: string }> {
  const folder = mkdtempSync(join(tmpdir(), 'parallax-client-'))
  writeFileSync(join(folder, 'key'), ' plx_key \n')
  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => handler(request, Buffer.concat(chunks), response))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.after(() => {
    server.closeAllConnections()
    server.close()
    rmSync(folder, { recursive: true })
  })
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return { client: new Client({ url, apiKeyFile: join(folder, 'key') }), folder }
}

function answer(response: ServerResponse, status: number, json: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(json))
}

test('invoke posts the call and reads value, confidence, evidence and usage', async (t) => {
  let seen: unknown
  const { client } = await serve(t, ({ method, url, headers }, body, response) => {
    seen = [method, url, headers.authorization, headers['idempotency-key'], JSON.parse(body.toString())]
    answer(response, 200, {
      task_id: 'tsk_1',
      value: { ok: '🦜' },
      confidence: { value_ppm: 250_000, source: 'model' },
      evidence: [{ kind: 'note', summary: 'seen' }],
      usage: { input_tokens: 3, output_tokens: 0, cost_micro_minor: 0, currency: '' },
    })
  })
  const { taskId, value, confidence, evidence, usage } = await client.invoke<{ ok: string }>('my agent', 'do', { a: 1 }, { deadlineMs: 500 })
  const call = { capability: 'do', input: { a: 1 }, deadline_ms: 500 }
  assert.deepEqual(seen, ['POST', '/api/agents/my%20agent/invoke', 'Bearer plx_key', undefined, call])
  assert.deepEqual([taskId, value.ok, confidence, evidence.length, usage?.inputTokens], ['tsk_1', '🦜', { value: 0.25, source: 'model' }, 1, 3])
})

test('a problem document becomes a typed error', async (t) => {
  const { client } = await serve(t, (_request, _body, response) => {
    answer(response, 503, { code: 'agent_unavailable', title: 'No agent', detail: 'no instance is connected', request_id: 'req_1' })
  })
  await assert.rejects(client.invoke('a', 'b', null), (error) => {
    assert.ok(error instanceof ApiError)
    assert.deepEqual([error.code, error.status, error.requestId], ['agent_unavailable', 503, 'req_1'])
    assert.equal(error.message, 'no instance is connected (agent_unavailable)')
    return true
  })
})

test('an answer that is no problem document is told as it is', async (t) => {
  const { client } = await serve(t, (_request, _body, response) => void response.writeHead(502).end('bad gateway'))
  await assert.rejects(client.tasks.get('x'), { name: 'ApiError', code: 'http_502', message: /bad gateway/ })
})

test('no answer is a ConnectionError, a fired signal its reason', async (t) => {
  const { client } = await serve(t, (request) => request.socket.destroy())
  await assert.rejects(client.tasks.get('x'), ConnectionError)
  await assert.rejects(client.invoke('a', 'b', 1, { signal: AbortSignal.abort(new Error('enough')) }), /enough/)
})

test('a durable task is submitted with a key and waited for', async (t) => {
  const states = ['queued', 'running', 'succeeded']
  const keys: unknown[] = []
  const { client } = await serve(t, ({ method, headers }, _body, response) => {
    if (method === 'POST') {
      keys.push(headers['idempotency-key'], headers.prefer)
      return answer(response, 202, { task_id: 'tsk_9', state: 'queued' })
    }
    const state = states.shift()
    const outcome = state === 'succeeded' ? { answer: { task_id: 'tsk_9', value: 7, evidence: [] } } : undefined
    answer(response, 200, { id: 'tsk_9', state, agent: 'agent', capability: 'do', cancel: 'none', attempt: 2, outcome })
  })
  const { id } = await client.submit('agent', 'do', 1, { idempotencyKey: 'order 7' })
  assert.deepEqual(keys, ['order 7', 'respond-async'])
  const done = await client.tasks.wait(id)
  assert.deepEqual([done.state, done.answer?.value, done.attempt, states.length], ['succeeded', 7, 2, 0])
})

test('a task that failed says why', async (t) => {
  const { client } = await serve(t, (_request, _body, response) => {
    const problem = { code: 'agent_failed', message: 'no', retryable: true, agent_code: 'quota_gone' }
    answer(response, 200, { id: 'tsk_9', state: 'failed', outcome: { problem } })
  })
  const { failure, answer: none } = await client.tasks.get('tsk_9')
  assert.deepEqual([failure?.code, failure?.retryable, failure?.agentCode, none], ['agent_failed', true, 'quota_gone', undefined])
})

test('a value that is too large to come along is fetched', async (t) => {
  const { client } = await serve(t, ({ url }, _body, response) => {
    const blob = { digest: 'sha256:1', size_bytes: 300_000, media_type: 'application/json' }
    answer(response, 200, url === '/api/tasks/tsk_1/blob' ? { huge: true } : { task_id: 'tsk_1', blob, evidence: [] })
  })
  assert.deepEqual((await client.invoke('a', 'b', null)).value, { huge: true })
})

test('the registry is read page by page', async (t) => {
  const { client } = await serve(t, ({ url }, _body, response) => {
    const second = url?.includes('cursor=n%2F2')
    answer(response, 200, second ? { items: [{ agent_name: 'b' }], next_cursor: null } : { items: [{ agent_name: 'a' }], next_cursor: 'n/2' })
  })
  const names = []
  for await (const { agent_name } of client.registry.list()) {
    names.push(agent_name)
  }
  assert.deepEqual(names, ['a', 'b'])
})

test('deploy uploads a folder as the spec and an archive that tar reads', async (t) => {
  let body: Buffer = Buffer.alloc(0)
  const { client, folder } = await serve(t, (_request, received, response) => {
    body = received
    answer(response, 202, { agent: { id: 'agt_1' }, status_url: '/api/agents/agt_1/status' })
  })
  const source = join(folder, 'source')
  const long = 'deep/'.repeat(30)
  mkdirSync(join(source, long), { recursive: true })
  mkdirSync(join(source, 'node_modules'))
  writeFileSync(join(source, 'node_modules', 'left-out.js'), '')
  writeFileSync(join(source, long, 'žluťoučký kůň.txt'), 'x'.repeat(70_000))
  writeFileSync(join(source, 'run.sh'), '#!/bin/sh\n')
  chmodSync(join(source, 'run.sh'), 0o755)
  symlinkSync('run.sh', join(source, 'link'))
  const { statusUrl } = await client.deploy(source, { name: 'a', stopGraceMs: 5_000 })
  assert.equal(statusUrl, '/api/agents/agt_1/status')
  const text = body.toString('latin1')
  assert.match(text, /name="spec"\r\ncontent-type: application\/json\r\n\r\n\{"name":"a","stop_grace_ms":5000\}\r\n/)
  const from = text.indexOf('\r\n\r\n', text.indexOf('name="source"')) + 4
  const unpacked = join(folder, 'unpacked')
  mkdirSync(unpacked)
  const { status, stderr } = spawnSync('tar', ['-xzf', '-', '-C', unpacked], { input: body.subarray(from, text.lastIndexOf('\r\n--')) })
  assert.equal(status, 0, stderr.toString())
  assert.deepEqual(readdirSync(unpacked).sort(), ['deep', 'link', 'run.sh'])
  assert.equal(readFileSync(join(unpacked, long, 'žluťoučký kůň.txt'), 'utf8').length, 70_000)
  assert.equal(readFileSync(join(unpacked, 'link'), 'utf8'), '#!/bin/sh\n')
  assert.ok((statSync(join(unpacked, 'run.sh')).mode & 0o100) !== 0)
})

test('a link that leads out of the folder is never uploaded', async (t) => {
  const { client, folder } = await serve(t, (_request, _body, response) => answer(response, 202, {}))
  const source = join(folder, 'source')
  mkdirSync(source)
  symlinkSync('../key', join(source, 'stolen'))
  await assert.rejects(client.deploy(source, { name: 'a' }), (error) => error instanceof ConfigError && /leads out/.test(error.message))
})
