"""The agent's half of `parallax.v1.AgentService.Session`.

    runner ── reconnects, drains ──▶ session ── one stream ──▶ server
      │                                 ▲
      ▼                                 │ frames, while a stream is live
    worker ── inventory, credit ── execution ── handler

Tasks and their results belong to the worker and outlive every stream.
"""
