"""The documents in `corpus/`: one file a class, documents apart by a line `---`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent / "corpus"


@dataclass(frozen=True)
class Document:
    label: str
    text: str


def load(split: str) -> list[Document]:
    """The documents of `train` or `heldout`, in a fixed order."""
    found = []
    for path in sorted((ROOT / split).glob("*.txt")):
        for text in path.read_text(encoding="utf-8").split("\n---\n"):
            found.append(Document(path.stem, text.strip()))
    if not found:
        raise FileNotFoundError(f"{ROOT / split} holds no documents")
    return found
