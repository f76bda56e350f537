"""Makes the model's probabilities mean what they say.

Naive Bayes counts each feature as independent evidence, which words are not: its
raw probabilities are nearly always 0 or 1. One factor on the log-odds, chosen so
that documents the model has not seen are the least surprising, puts that right
(temperature scaling).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from .bayes import Model
from .corpus import Document

#: Parts of the training set that are held back in turn.
FOLDS = 6
#: Between "knows nothing" and "as sure as raw naive Bayes", in powers of ten.
LOWEST, HIGHEST = -3.0, 0.0
#: Halvings of that range: the factor is then known to far below a percent.
STEPS = 24


def train(documents: Sequence[Document]) -> Model:
    """A model of all documents, calibrated on each part as seen by a model of the others."""
    folds = [
        (
            Model(document for at, document in enumerate(documents) if at % FOLDS != fold),
            [document for at, document in enumerate(documents) if at % FOLDS == fold],
        )
        for fold in range(FOLDS)
    ]
    return Model(documents, sharpness=_sharpness(folds))


def _sharpness(folds: Sequence[tuple[Model, Sequence[Document]]]) -> float:
    """Ternary search: the surprise has one minimum in the factor."""
    low, high = LOWEST, HIGHEST
    for _ in range(STEPS):
        left = low + (high - low) / 3
        right = high - (high - low) / 3
        if _surprise(folds, 10**left) < _surprise(folds, 10**right):
            high = right
        else:
            low = left
    return float(10 ** ((low + high) / 2))


def _surprise(folds: Sequence[tuple[Model, Sequence[Document]]], sharpness: float) -> float:
    """The summed negative log-probability of the right labels."""
    total = 0.0
    for model, unseen in folds:
        model.sharpness = sharpness
        for document in unseen:
            probability = model.predict(document.text).probabilities[document.label]
            total -= math.log(max(probability, 1e-12))
    return total
