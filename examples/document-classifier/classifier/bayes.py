"""The model: how likely each feature is in each class."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .corpus import Document
from .tokens import features

#: Added to every count, so that a feature that a class never showed does not
#: rule the class out. Small, because the corpus is: chosen by cross-validation.
SMOOTHING = 0.1


@dataclass(frozen=True)
class Contribution:
    """What one feature says for a class, against the average of the others."""

    feature: str
    #: In nats of the uncalibrated score; negative speaks against the class.
    weight: float


@dataclass(frozen=True)
class Prediction:
    label: str
    #: Calibrated, of every class, the most probable first. Sums to 1.
    probabilities: dict[str, float]
    #: The share of the text's features that training has seen.
    coverage: float

    @property
    def confidence(self) -> float:
        return self.probabilities[self.label]


class Model:
    """Multinomial naive Bayes over words and pairs, with calibrated scores."""

    def __init__(self, documents: Iterable[Document], sharpness: float = 1.0) -> None:
        """`sharpness` scales log-odds before they become probabilities: see calibration."""
        self.sharpness = sharpness
        counts: dict[str, dict[str, float]] = {}
        sizes: dict[str, int] = defaultdict(int)
        for document in documents:
            own = counts.setdefault(document.label, defaultdict(float))
            sizes[document.label] += 1
            for feature, weight in features(document.text).items():
                own[feature] += weight
        if len(counts) < 2:
            raise ValueError("a classifier needs documents of at least two classes")
        self.labels = sorted(counts)
        self._vocabulary = frozenset(feature for own in counts.values() for feature in own)
        total = sum(sizes.values())
        self._prior = {label: math.log(sizes[label] / total) for label in self.labels}
        self._likelihood = {label: self._logs(counts[label]) for label in self.labels}
        self._unseen = {label: self._log_unseen(counts[label]) for label in self.labels}

    def predict(self, text: str) -> Prediction:
        present = features(text)
        known = self._known(present)
        probabilities = self._softmax(self.scores(known))
        ranked = dict(sorted(probabilities.items(), key=lambda item: -item[1]))
        coverage = len(known) / len(present) if present else 0.0
        return Prediction(next(iter(ranked)), ranked, coverage)

    def explain(self, text: str, label: str, top: int = 8) -> list[Contribution]:
        """The features that speak loudest for or against `label`, the loudest first.

        Raises KeyError for a label that training has not seen.
        """
        if label not in self._likelihood:
            raise KeyError(label)
        others = [other for other in self.labels if other != label]
        found = []
        for feature, count in self._known(features(text)).items():
            rivals = sum(self._log(other, feature) for other in others) / len(others)
            found.append(Contribution(feature, count * (self._log(label, feature) - rivals)))
        # Words before pairs of the same weight: they are easier to read.
        found.sort(key=lambda item: (-abs(item.weight), " " in item.feature, item.feature))
        return found[:top]

    def scores(self, present: Mapping[str, float]) -> dict[str, float]:
        """The joint log-probability of the features with each class, uncalibrated."""
        return {
            label: self._prior[label]
            + sum(count * self._log(label, feature) for feature, count in present.items())
            for label in self.labels
        }

    def _known(self, present: Mapping[str, float]) -> dict[str, float]:
        """What training never saw tells nothing: it would only favour small classes."""
        return {feature: count for feature, count in present.items() if feature in self._vocabulary}

    def _softmax(self, scores: Mapping[str, float]) -> dict[str, float]:
        highest = max(scores.values())
        powers = {
            label: math.exp(self.sharpness * (score - highest)) for label, score in scores.items()
        }
        total = sum(powers.values())
        return {label: power / total for label, power in powers.items()}

    def _log(self, label: str, feature: str) -> float:
        return self._likelihood[label].get(feature, self._unseen[label])

    def _logs(self, counts: Mapping[str, float]) -> dict[str, float]:
        total = self._total(counts)
        return {feature: math.log((count + SMOOTHING) / total) for feature, count in counts.items()}

    def _log_unseen(self, counts: Mapping[str, float]) -> float:
        return math.log(SMOOTHING / self._total(counts))

    def _total(self, counts: Mapping[str, float]) -> float:
        return sum(counts.values()) + SMOOTHING * len(self._vocabulary)
