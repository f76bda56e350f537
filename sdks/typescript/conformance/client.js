// What the end-to-end tests have a client do: `node client.js FOLDER`, where FOLDER
// is the source of an agent with the capability `echo`, and the agent of fixture.js
// is connected. Prints one JSON object for each step; the other SDKs print the same.
import { Client } from '@parallax/sdk/client'

const EXTERNAL = 'conformance-fixture'
const HOSTED = 'parrot'
const TRACE = { traceparent: '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01', tracestate: 'a=b', baggage: 'c=d' }

const client = new Client()
const folder = process.argv[2] ?? ''

/** @param {string} step @param {object} found */
function say(step, found = {}) {
  console.log(JSON.stringify({ step, ...found }))
}

/** @param {() => Promise<unknown>} work */
async function refusal(work) {
  try {
    await work()
    return 'nothing'
  } catch (error) {
    const { name, code, status, agentCode, retryable } = /** @type {import('@parallax/sdk/client').ApiError} */ (error)
    return [name, code, status, agentCode ?? '', retryable]
  }
}

/** @param {() => Promise<boolean>} holds */
async function until(holds) {
  while (!(await holds())) {
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

async function deploys() {
  const spec = /** @type {const} */ ({ name: HOSTED, language: 'javascript', start: ['node', 'main.js'], stopGraceMs: 3_000 })
  say('dry run', { action: (await client.dryRun(folder, spec)).action })
  const { agent, revision, generation, changed } = await client.deploy(folder, spec)
  const { phase, replicas } = await client.agents.untilReady(agent, { generation })
  say('ready', { agent, revision, changed, phase, ready: replicas.ready })
  const again = await client.deploy(folder, spec)
  say('again', { revision: again.revision, changed: again.changed })
  const { value } = /** @type {{ value: { echo: string } }} */ (await client.invoke(HOSTED, 'echo', 'hé'))
  say('hosted', { value: value.echo })
}

async function calls() {
  const echoed = await client.invoke(EXTERNAL, 'echo', { é: [1, null] }, { deadlineMs: 30_000 })
  const evidence = echoed.evidence.map(({ kind, summary }) => [kind, summary])
  say('attached', { value: echoed.value, confidence: echoed.confidence?.value, source: echoed.confidence?.source, evidence })
  const told = []
  for await (const update of client.stream(EXTERNAL, 'stream', { chunks: 2, bytes: 3 })) {
    if (update.type !== 'progress') {
      told.push(update.type === 'partial' ? [update.seq, update.chunk] : update.answer.value)
    }
  }
  say('stream', { told })
  const large = /** @type {{ value: { data: string } }} */ (await client.invoke(EXTERNAL, 'large', { bytes: 300_000 }))
  say('large', { bytes: large.value.data.length })
  const { value: context } = await client.invoke(EXTERNAL, 'context', null, { trace: TRACE, contextId: 'talk' })
  const { traceparent, tracestate, baggage, context_id } = /** @type {Record<string, string>} */ (context)
  say('context', { traceparent, tracestate, baggage, context_id })
}

async function refusals() {
  const stranger = new Client({ apiKeyFile: process.env['WRONG_KEY_FILE'] ?? '' })
  say('refused', {
    failed: await refusal(() => client.invoke(EXTERNAL, 'fail', { code: 'empty', message: 'nothing there', retryable: true })),
    streamed: await refusal(() => client.stream(EXTERNAL, 'fail', { code: 'empty', message: 'nothing there' }).next()),
    agent: await refusal(() => client.invoke('nobody', 'echo', null)),
    capability: await refusal(() => client.invoke(EXTERNAL, 'sing', null)),
    // Whether the agent or the server notices first is chance, and shows in the rest.
    deadline: (await refusal(() => client.invoke(EXTERNAL, 'slow', { ms: 60_000 }, { deadlineMs: 100 })))[1],
    key: await refusal(() => stranger.invoke(EXTERNAL, 'echo', null)),
    task: await refusal(() => client.tasks.events('tsk_06f9x2k8000000000000000000').next()),
  })
}

async function abandons() {
  const working = async () => {
    for await (const { agentName, inFlight } of client.registry.list({ capability: 'slow' })) {
      if (agentName === EXTERNAL) {
        return inFlight > 0
      }
    }
    return false
  }
  const leaving = new AbortController()
  const call = refusal(() => client.invoke(EXTERNAL, 'slow', { ms: 600_000 }, { signal: leaving.signal }))
  await until(working)
  leaving.abort()
  await call
  await until(async () => !(await working()))
  say('abandoned')
}

async function durable() {
  const options = { idempotencyKey: 'once' }
  const { id, ended } = await client.submit(EXTERNAL, 'echo', 'kept', options)
  const same = await client.submit(EXTERNAL, 'echo', 'kept', options)
  const done = await client.tasks.wait(id)
  const told = []
  for await (const { task } of client.tasks.events(id)) {
    told.push(task.state)
  }
  say('durable', { same: same.id === id, ended, state: done.state, value: done.answer?.value, last: told.at(-1), told: told.length > 1 })
  const other = await refusal(() => client.submit(EXTERNAL, 'echo', 'another', options))
  say('mismatch', { other })
  const failing = await client.submit(EXTERNAL, 'fail', { code: 'empty', message: 'nothing there' })
  const { state, failure } = await client.tasks.wait(failing.id)
  say('failed', { state, code: failure?.code, agent_code: failure?.agentCode, message: failure?.message })
  const asking = await client.submit(EXTERNAL, 'ask', null)
  await running(asking.id)
  await client.tasks.input(asking.id, 'i1', 42)
  say('asked', { value: (await client.tasks.wait(asking.id)).answer?.value })
  await heard()
  const endless = await client.submit(EXTERNAL, 'slow', { ms: 600_000 })
  await running(endless.id)
  const { cancel } = await client.tasks.cancel(endless.id, 'enough')
  say('cancelled', { asked: cancel !== 'none', state: (await client.tasks.wait(endless.id)).state })
  const patient = await client.submit(EXTERNAL, 'slow', { ms: 1_500 })
  await running(patient.id)
  const waiting = client.tasks.wait(patient.id)
  say('restart')
  say('survived', { state: (await waiting).state })
}

async function heard() {
  const { id } = await client.submit(EXTERNAL, 'stream', { chunks: 2, bytes: 3, after_input: true })
  await running(id)
  const partials = []
  let [progress, events] = [false, 0]
  for await (const news of client.tasks.watch(id)) {
    if (news.type === 'partial') {
      partials.push([news.seq, news.chunk])
    } else if (news.type === 'progress') {
      progress = true
    } else if (news.type === 'event' && ++events === 1) {
      // From here on it is watched, and what it says is heard.
      await client.tasks.input(id, 'go', null)
    }
  }
  say('heard', { partials, progress })
}

/** That an agent has taken a task on is no change of its own, but shows in its state. @param {string} id */
async function running(id) {
  await until(async () => (await client.tasks.get(id)).state === 'running')
}

async function watches() {
  const seen = new Set()
  let stage = 'present'
  for await (const change of client.registry.watch()) {
    if (change.type === 'resync') {
      seen.clear()
    } else if (change.type === 'upserted') {
      seen.add(`${change.entry.agentName} ${change.entry.instanceUuid}`)
    } else if (change.type === 'removed') {
      seen.delete(`${change.agentName} ${change.instanceUuid}`)
    }
    if (stage === 'present' && change.type === 'synced' && seen.size === 2) {
      await client.agents.scale(HOSTED, 2)
      stage = 'grown'
    } else if (stage === 'grown' && seen.size === 3) {
      await client.agents.scale(HOSTED, 1)
      stage = 'shrunk'
    } else if (stage === 'shrunk' && seen.size === 2) {
      break
    }
  }
  const names = []
  for await (const { agentName } of client.registry.list()) {
    names.push(agentName)
  }
  say('watched', { names })
}

async function lists() {
  const tasks = []
  for await (const { capability, ended } of client.tasks.list({ agent: EXTERNAL })) {
    tasks.push([capability, ended])
  }
  const agents = []
  for await (const { name } of client.agents.list()) {
    agents.push(name)
  }
  say('listed', { tasks, agents })
  await client.agents.delete(HOSTED)
  await until(async () => (await refusal(() => client.agents.status(HOSTED)))[1] === 'not_found')
  say('deleted')
}

await deploys()
await calls()
await refusals()
await abandons()
await durable()
await watches()
await lists()
