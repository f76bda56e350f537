// What the end-to-end tests call once: `node call.js CAPABILITY`, of the agent of
// fixture.js, with the capability's name as its input. Prints the answer as JSON.
import { Client } from '@parallax/sdk/client'

const capability = process.argv[2] ?? ''
const traceparent = process.env['TRACEPARENT'] ?? ''
const { value } = await new Client().invoke('conformance-fixture', capability, capability, { trace: { traceparent } })
console.log(JSON.stringify({ value }))
