"""A Parallax agent that tells what kind of document a text is."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

from parallax_sdk import Agent, Context, Evidence, Result, SyncContext, TaskError

from classifier import Contribution, Prediction, load, train

#: Characters. Longer texts say no more about their kind, and take long.
MAX_TEXT = 1_000_000
#: Documents of one batch.
MAX_BATCH = 10_000

TEXT = {"type": "string", "minLength": 1, "maxLength": MAX_TEXT}
ONE_DOCUMENT = {
    "type": "object",
    "required": ["text"],
    "properties": {"text": TEXT},
    "additionalProperties": False,
}
EXPLAINED_DOCUMENT = {
    "type": "object",
    "required": ["text"],
    "properties": {
        "text": TEXT,
        "label": {"type": "string"},
        "top": {"type": "integer", "minimum": 1, "maximum": 100},
    },
    "additionalProperties": False,
}
MANY_DOCUMENTS = {
    "type": "object",
    "required": ["documents"],
    "properties": {
        "documents": {
            "type": "array",
            "minItems": 1,
            "maxItems": MAX_BATCH,
            "items": {
                "type": "object",
                "required": ["text"],
                "properties": {"id": {"type": "string"}, "text": TEXT},
                "additionalProperties": False,
            },
        }
    },
    "additionalProperties": False,
}

# Trained at each start from the corpus in this folder: it takes well under a second.
model = train(load("train"))
agent = Agent(labels={"classes": ",".join(model.labels)})


@agent.capability("classify", idempotent=True, input_schema=ONE_DOCUMENT)
def classify(value: dict[str, str], ctx: SyncContext) -> Result:
    """Tells what kind of document a text is, how sure that is, and why."""
    text = value["text"]
    prediction = model.predict(text)
    reasons = model.explain(text, prediction.label)
    return Result(
        _answer(prediction),
        confidence=prediction.confidence,
        confidence_source="model",
        evidence=[_evidence(prediction, reasons)],
    )


@agent.capability("classify-batch", idempotent=True, input_schema=MANY_DOCUMENTS)
async def classify_batch(value: dict[str, list[dict[str, str]]], ctx: Context) -> Result:
    """Classifies many texts; each answer is sent early, as one line of JSON."""
    documents = value["documents"]
    answers: list[dict[str, Any]] = []
    for number, document in enumerate(documents):
        # In a thread, and awaited: other tasks go on, and a cancel ends the
        # batch after the document at hand.
        prediction = await asyncio.to_thread(model.predict, document["text"])
        answer = {"id": document.get("id", str(number)), **_answer(prediction)}
        answers.append(answer)
        await ctx.partial(json.dumps(answer, ensure_ascii=False) + "\n")
        ctx.progress(len(answers) / len(documents), f"{len(answers)} of {len(documents)}")
    # A batch is as trustworthy as its weakest answer.
    weakest = min(max(answer["probabilities"].values()) for answer in answers)
    counts = Counter(answer["label"] for answer in answers)
    return Result(
        {"results": answers, "counts": dict(counts)},
        confidence=weakest,
        confidence_source="model",
    )


@agent.capability("explain", idempotent=True, input_schema=EXPLAINED_DOCUMENT)
def explain(value: dict[str, Any], ctx: SyncContext) -> Result:
    """Weighs the words of a text for one label: the given one, or the most probable."""
    prediction = model.predict(value["text"])
    label = value.get("label", prediction.label)
    if label not in prediction.probabilities:
        raise TaskError(
            "unknown_label", f"{label!r} is none of the labels: {', '.join(model.labels)}"
        )
    reasons = model.explain(value["text"], label, value.get("top", 20))
    return Result(
        {
            **_answer(prediction),
            "explained": label,
            "features": [{"feature": r.feature, "weight": round(r.weight, 4)} for r in reasons],
        },
        confidence=prediction.probabilities[label],
        confidence_source="model",
    )


def _answer(prediction: Prediction) -> dict[str, Any]:
    return {
        "label": prediction.label,
        "probabilities": {
            label: round(share, 6) for label, share in prediction.probabilities.items()
        },
        "coverage": round(prediction.coverage, 4),
    }


def _evidence(prediction: Prediction, reasons: list[Contribution]) -> Evidence:
    speaking_for = [reason for reason in reasons if reason.weight > 0]
    words = ", ".join(f"“{reason.feature}”" for reason in speaking_for[:4])
    summary = f"typical of {prediction.label}: {words}" if words else "no familiar words"
    detail = [{"feature": r.feature, "weight": round(r.weight, 4)} for r in reasons]
    return Evidence("features", summary, detail)


if __name__ == "__main__":
    agent.run()
