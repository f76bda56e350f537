import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'

import { AgentFailedError, type api, ApiError, Client, ConnectionError } from '../src/client/index.js'
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

/** A stream of server-sent events that breaks off unless `end` says otherwise. */
function tell(response: ServerResponse, entries: readonly { id?: number; data: unknown }[], end: boolean): void {
  response.writeHead(200, { 'content-type': 'text/event-stream' })
  response.write(': keep-alive\n\n')
  for (const { id, data } of entries) {
    response.write(`${id === undefined ? '' : `id: ${id}\n`}event: x\ndata: ${JSON.stringify(data)}\n\n`)
  }
  if (end) {
    response.end()
  } else {
    response.write('id: 99\ndata: {"cut":', () => response.destroy())
  }
}

const TASK: api.TaskView = {
  id: 'tsk_9',
  agent: 'agent',
  capability: 'do',
  state: 'queued',
  cancel: 'none',
  attempt: 0,
  caller: 'tests',
  created_at: '2026-01-01T00:00:00Z',
  updated_at: '2026-01-01T00:00:00Z',
}

function changed(cursor: number, state: api.TaskView['state']): { id: number; data: api.TaskEntry } {
  const event: api.TaskEventView = { cursor, at: TASK.updated_at, kind: state, task: { ...TASK, state } }
  return { id: cursor, data: { type: 'event', event } }
}

const PROBLEM: api.Problem = {
  type: 'urn:parallax:error:agent_failed',
  title: 'Agent failed',
  status: 502,
  code: 'agent_failed',
  detail: 'no',
  request_id: 'req_1',
}

const INSTANCE: api.RegistryEntry = {
  agent_name: 'a',
  instance_uuid: 'u',
  agent_id: null,
  capabilities: [{ name: 'do', version: '', description: '', max_concurrency: 2, idempotent: true }],
  labels: { zone: 'x' },
  sdk: { name: 's', version: '1', language: 'x' },
  lease_epoch: 1,
  state: 'connected',
  connected_at: TASK.updated_at,
  lease_until: TASK.updated_at,
  in_flight: 0,
  credit: 4,
  unresolved_cancels: 0,
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

test('a durable task is submitted with a key and waited for, through a broken stream', async (t) => {
  const seen: unknown[] = []
  const { client } = await serve(t, ({ method, url, headers }, _body, response) => {
    seen.push(`${method} ${url?.replace('/api/', '')}${headers['last-event-id'] ? ` after ${headers['last-event-id']}` : ''}`)
    if (method === 'POST') {
      assert.deepEqual([headers['idempotency-key'], headers.prefer], ['order 7', 'respond-async'])
      return answer(response, 202, TASK)
    }
    if (url?.endsWith('/events')) {
      assert.match(headers.accept ?? '', /^text\/event-stream/)
      const again = headers['last-event-id'] !== undefined
      const silent = seen.filter((line) => line === 'GET tasks/tsk_9/events').length === 1
      return tell(response, again ? [changed(8, 'succeeded')] : silent ? [] : [changed(5, 'running')], again)
    }
    const outcome = { answer: { task_id: 'tsk_9', value: 7 } }
    answer(response, 200, seen.length > 3 ? { ...TASK, state: 'succeeded', attempt: 2, outcome } : TASK)
  })
  const { id, ended } = await client.submit('agent', 'do', 1, { idempotencyKey: 'order 7' })
  assert.equal(ended, false)
  const done = await client.tasks.wait(id)
  assert.deepEqual([done.state, done.ended, done.answer?.value, done.attempt], ['succeeded', true, 7, 2])
  assert.deepEqual(seen, [
    'POST agents/agent/invoke',
    'GET tasks/tsk_9',
    'GET tasks/tsk_9/events',
    'GET tasks/tsk_9/events',
    'GET tasks/tsk_9/events after 5',
    'GET tasks/tsk_9',
  ])
})

test('the events of a task are told once each, and a refusal within the stream is thrown', async (t) => {
  const { client } = await serve(t, ({ url, headers }, _body, response) => {
    if (url?.includes('tsk_no')) {
      return tell(response, [{ data: { type: 'problem', problem: { ...PROBLEM, code: 'credential_expired', status: 401 } } }], true)
    }
    const after = Number(headers['last-event-id'] ?? 0)
    const entries = [changed(1, 'queued'), changed(2, 'running'), changed(3, 'lost')].filter(({ id }) => id > after)
    tell(response, entries.slice(0, 2), entries.length < 3)
  })
  const told = []
  for await (const { cursor, kind, at, task } of client.tasks.events('tsk_9')) {
    told.push([cursor, kind, at.getUTCFullYear(), task.ended])
  }
  assert.deepEqual(told, [[1, 'queued', 2026, false], [2, 'running', 2026, false], [3, 'lost', 2026, true]])
  await assert.rejects(client.tasks.events('tsk_no').next(), { name: 'ApiError', code: 'credential_expired', status: 401 })
})

test('a watcher of a task hears its signs of life', async (t) => {
  const entries: { id?: number; data: unknown }[] = [
    changed(1, 'running'),
    { data: { type: 'progress', progress: { ppm: 500_000, message: 'half' } } },
    { data: { type: 'progress', progress: { message: 'on it' } } },
    { data: { type: 'partial', partial: { seq: 1, chunk: 'ü' } } },
    { data: { type: 'skipped', skipped: 7 } },
    { data: { type: 'news of a newer server' } },
    changed(2, 'succeeded'),
  ]
  const { client } = await serve(t, (_request, _body, response) => tell(response, entries, true))
  const told: unknown[] = []
  for await (const news of client.tasks.watch('tsk_9')) {
    told.push(news.type === 'event' ? news.event.kind : news)
  }
  assert.deepEqual(told, [
    'running',
    { type: 'progress', fraction: 0.5, message: 'half' },
    { type: 'progress', fraction: undefined, message: 'on it' },
    { type: 'partial', seq: 1, chunk: 'ü' },
    { type: 'skipped', count: 7 },
    'succeeded',
  ])
})

test('a task that failed says why', async (t) => {
  const { client } = await serve(t, (_request, _body, response) => {
    const problem: api.TaskProblem = { code: 'agent_failed', message: 'no', retryable: true, agent_code: 'quota_gone' }
    answer(response, 200, { ...TASK, state: 'failed', outcome: { problem } })
  })
  const { failure, answer: none } = await client.tasks.get('tsk_9')
  assert.deepEqual([failure?.code, failure?.retryable, failure?.agentCode, none], ['agent_failed', true, 'quota_gone', undefined])
})

test('a streamed call tells progress and partials before its answer', async (t) => {
  const trace = { traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', tracestate: '', baggage: 'k=v' }
  let headers: IncomingMessage['headers'] = {}
  const { client } = await serve(t, (request, body, response) => {
    headers = request.headers
    const failing = JSON.parse(body.toString()).capability === 'fail'
    const last: api.TaskEntry = failing
      ? { type: 'problem', problem: { ...PROBLEM, agent_code: 'empty' } }
      : { type: 'answer', answer: { task_id: 'tsk_1', value: 'é' } }
    const entries: api.TaskEntry[] = [
      { type: 'progress', progress: { ppm: 500_000, message: 'half' } },
      { type: 'partial', partial: { seq: 1, chunk: 'ž' } },
      last,
    ]
    tell(response, entries.map((data) => ({ data })), true)
  })
  const told = []
  for await (const update of client.stream('a', 'do', null, { trace })) {
    told.push(update.type === 'answer' ? update.answer.value : update)
  }
  assert.deepEqual(told, [{ type: 'progress', fraction: 0.5, message: 'half' }, { type: 'partial', seq: 1, chunk: 'ž' }, 'é'])
  assert.deepEqual([headers.traceparent, headers['tracestate'], headers['baggage']], [trace.traceparent, undefined, 'k=v'])
  const failing = async (): Promise<void> => {
    for await (const _ of client.stream('a', 'fail', null)) {
      // Only its end matters.
    }
  }
  await assert.rejects(failing(), { name: 'ApiError', code: 'agent_failed', agentCode: 'empty' })
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
    const [items, next_cursor] = second ? [[{ ...INSTANCE, agent_name: 'b' }], null] : [[INSTANCE], 'n/2']
    answer(response, 200, { items, next_cursor } satisfies api.Page<api.RegistryEntry>)
  })
  const found = []
  for await (const { agentName, capabilities, labels } of client.registry.list({ capability: 'do' })) {
    found.push([agentName, capabilities[0]?.maxConcurrency, labels['zone']])
  }
  assert.deepEqual(found, [['a', 2, 'x'], ['b', 2, 'x']])
})

test('a watched registry begins anew after the connection broke', async (t) => {
  let calls = 0
  const { client } = await serve(t, (_request, _body, response) => {
    calls += 1
    const events: api.RegistryEvent[] = [{ type: 'resync' }, { type: 'upserted', entry: INSTANCE }, { type: 'synced' }]
    tell(response, (calls === 1 ? events.slice(0, 2) : events).map((data) => ({ data })), false)
  })
  const told = []
  for await (const change of client.registry.watch()) {
    told.push(change.type === 'upserted' ? change.entry.agentName : change.type)
    if (change.type === 'synced') {
      break
    }
  }
  assert.deepEqual(told, ['resync', 'a', 'resync', 'a', 'synced'])
})

test('an agent is waited for until it is ready or has failed for good', async (t) => {
  const counts = { desired: 1, ready: 0, updated: 0 }
  const status: api.StatusView = {
    id: 'agt_1',
    agent: 'a',
    phase: 'Starting',
    message: '',
    since: TASK.updated_at,
    observed_generation: 1,
    generation: 2,
    replicas: counts,
    conditions: [],
    replica_details: [],
    builds: [],
  }
  const answers: api.StatusView[] = [
    // Of before the change.
    { ...status, phase: 'Ready' },
    { ...status, observed_generation: 2, phase: 'Failed', reason: 'Unschedulable' },
    // Carried over from before the server's start.
    { ...status, observed_generation: 2, phase: 'Ready', conditions: [{ kind: 'AgentConnected', holds: false, message: '' }] },
    { ...status, observed_generation: 2, phase: 'Ready', replicas: { ...counts, unconfirmed: 1 } },
    { ...status, observed_generation: 2, phase: 'Ready', replicas: { ...counts, ready: 1 } },
    { ...status, observed_generation: 2, phase: 'Failed', reason: 'CrashLoop', message: 'exit code 3' },
  ]
  const { client } = await serve(t, (_request, _body, response) => answer(response, 200, answers.shift()))
  assert.equal((await client.agents.untilReady('a')).replicas.ready, 1)
  await assert.rejects(client.agents.untilReady('a'), (error) => {
    assert.ok(error instanceof AgentFailedError)
    assert.equal(error.message, 'a failed: Failed (CrashLoop): exit code 3')
    return true
  })
})

test('deploy uploads a folder as the spec and an archive that tar reads', async (t) => {
  let body: Buffer = Buffer.alloc(0)
  const { client, folder } = await serve(t, (_request, received, response) => {
    body = received
    answer(response, 202, { agent: { id: 'agt_1', name: 'a', generation: 3 }, status_url: '/api/agents/agt_1/status', changed: true })
  })
  const source = join(folder, 'source')
  const long = 'deep/'.repeat(30)
  mkdirSync(join(source, long), { recursive: true })
  mkdirSync(join(source, 'node_modules'))
  writeFileSync(join(source, 'node_modules', 'left-out.js'), '')
  writeFileSync(join(source, '.env'), 'SECRET=1')
  writeFileSync(join(source, '.env.local'), 'SECRET=1')
  writeFileSync(join(source, '.env.example'), 'SECRET=')
  writeFileSync(join(source, long, 'žluťoučký kůň.txt'), 'x'.repeat(70_000))
  writeFileSync(join(source, 'run.sh'), '#!/bin/sh\n')
  chmodSync(join(source, 'run.sh'), 0o755)
  symlinkSync('run.sh', join(source, 'link'))
  const { agent, generation, statusUrl } = await client.deploy(source, { name: 'a', stopGraceMs: 5_000 })
  assert.deepEqual([agent, generation, statusUrl], ['a', 3, '/api/agents/agt_1/status'])
  const text = body.toString('latin1')
  assert.match(text, /name="spec"\r\ncontent-type: application\/json\r\n\r\n\{"name":"a","stop_grace_ms":5000\}\r\n/)
  const from = text.indexOf('\r\n\r\n', text.indexOf('name="source"')) + 4
  const unpacked = join(folder, 'unpacked')
  mkdirSync(unpacked)
  const { status, stderr } = spawnSync('tar', ['-xzf', '-', '-C', unpacked], { input: body.subarray(from, text.lastIndexOf('\r\n--')) })
  assert.equal(status, 0, stderr.toString())
  assert.deepEqual(readdirSync(unpacked).sort(), ['.env.example', 'deep', 'link', 'run.sh'])
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

test('a folder with an ignore file of its own is left to the command line', async (t) => {
  const { client, folder } = await serve(t, (_request, _body, response) => answer(response, 202, {}))
  writeFileSync(join(folder, '.parallaxignore'), 'secrets/')
  await assert.rejects(client.deploy(folder, { name: 'a' }), (error) => error instanceof ConfigError && /parallax deploy/.test(error.message))
})
