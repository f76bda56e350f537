"""What the end-to-end tests call once: `python call.py CAPABILITY`.

Of the agent of fixture.py, with the capability's name as its input. Prints the
answer as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys

from parallax_sdk import Client

capability = sys.argv[1]
trace = {"traceparent": os.environ.get("TRACEPARENT", "")}
call = Client().invoke("conformance-fixture", capability, capability, trace=trace)
print(json.dumps({"value": asyncio.run(call).value}))
