"""A multinomial naive Bayes classifier for documents, in plain Python."""

from .bayes import Contribution, Model, Prediction
from .calibration import train
from .corpus import Document, load

__all__ = ["Contribution", "Document", "Model", "Prediction", "load", "train"]
