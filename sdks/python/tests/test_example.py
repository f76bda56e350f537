"""The example agent of this SDK, as a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fake_server import FakeServer, ref
from harness import value_of

from parallax_sdk._generated import agents_pb2 as agents

SDK = Path(__file__).resolve().parent.parent
EXAMPLE = SDK.parent.parent / "examples" / "document-classifier"


@pytest.mark.skipif(not EXAMPLE.is_dir(), reason="this copy of the SDK has no examples beside it")
async def test_the_document_classifier_classifies_explains_and_works_in_batches(
    tmp_path: Path,
) -> None:
    async with FakeServer(tmp_path) as server:
        environ = {
            **os.environ,
            "PYTHONPATH": str(SDK / "src"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PARALLAX_AGENT_NAME": "document-classifier",
            "PARALLAX_URL": server.url,
            "PARALLAX_TOKEN_FILE": str(server.token_file),
        }
        example = subprocess.Popen(  # noqa: ASYNC220 - it is only started and waited for
            [sys.executable, "main.py"], cwd=EXAMPLE, env=environ
        )
        try:
            peer, hello = await server.connected()
            names = {capability.name for capability in hello.capabilities}
            assert names == {"classify", "classify-batch", "explain"}
            peer.welcome()

            text = "Total payable 20.00 EUR including VAT, due in 30 days by bank transfer"
            peer.task("t1", "classify", {"text": text})
            result = await peer.skip_to("result")
            assert value_of(result)["label"] == "invoice"
            assert result.confidence.ppm > 800_000
            assert result.confidence.source == "model"
            assert "typical of invoice" in result.evidence[0].summary

            peer.task(
                "t2",
                "classify-batch",
                {"documents": [{"text": text}, {"text": "Bake in the oven until golden"}]},
            )
            lines = [json.loads((await peer.skip_to("partial")).chunk) for _ in range(2)]
            result = await peer.skip_to("result")
            assert value_of(result)["results"] == lines
            assert value_of(result)["counts"] == {"invoice": 1, "recipe": 1}

            peer.task("t3", "explain", {"text": text, "label": "recipe", "top": 3})
            features = value_of(await peer.skip_to("result"))["features"]
            assert len(features) == 3
            assert features[0]["weight"] < 0
            peer.task("t4", "explain", {"text": text, "label": "poem"})
            assert (await peer.skip_to("failed")).code == "unknown_label"

            many = {"documents": [{"text": text}] * 10_000}
            peer.task("t5", "classify-batch", many)
            await peer.skip_to("partial")
            peer.send(cancel=agents.Cancel(ref=ref("t5")))
            ack = await peer.skip_to("cancel_ack")
            assert ack.outcome == agents.CancelAck.OUTCOME_STOPPED

            example.terminate()
            await peer.skip_to("drain")
            peer.goaway(agents.Goaway.REASON_DRAINED)
            assert await asyncio.to_thread(example.wait, 15) == 0
        finally:
            example.kill()
            example.wait()
