"""What was learned of patterns: the score of each intent for a text, by its vector and by its words.

It is a kernel ridge regression. Two texts are alike by the distance of their vectors (a Gaussian of it), and by the
words and pairs of words that both have. Each intent's score is a weighted sum of how alike the text is to each pattern.
The part of it that goes by words is summed up beforehand, word by word. NumPy alone is needed here.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from zlib import crc32

import numpy as np

from prompts.intents.arithmetic import Labels, Matrix, Scores
from prompts.intents.words import words_of

# How weights are stored, and what they mean. Rows of another format are not read, but trained anew.
FORMAT = 2
# Words are told apart by a hash of so many values.
PLACES = 8192
# Chosen on the training and validation parts of CLINC150: how fast likeness falls with the squared distance of vectors,
# and what common words weigh beside it.
STEEPNESS = 1.5
WORD_WEIGHT = 0.25


@dataclass(frozen=True, slots=True)
class Features:
    """Texts as they are compared: unit vectors of shape (texts, dimensions), and the places of each text's words."""

    vectors: Matrix
    places: Sequence[Labels]

    @classmethod
    def of(cls, vectors: Matrix, texts: Sequence[str]) -> Features:
        return cls(vectors, [places_of(text) for text in texts])

    def __len__(self) -> int:
        return len(self.places)

    def part(self, rows: Labels) -> Features:
        return Features(self.vectors[rows], [self.places[row] for row in rows])


@dataclass(frozen=True, slots=True)
class Learned:
    """Logits of `intents`.

    `coefficients` has the shape (patterns, intents), for the unit vectors `patterns`; `words` the shape (`PLACES`,
    intents).
    """

    intents: tuple[str, ...]
    patterns: Matrix
    coefficients: Matrix
    words: Matrix

    @classmethod
    def of(cls, intents: Sequence[str], known: Features, coefficients: Matrix) -> Learned:
        """With coefficients for the whole likeness of a text to each known one."""
        words = np.zeros((PLACES, len(intents)), dtype=np.float32)
        for places, of_pattern in zip(known.places, coefficients, strict=True):
            words[places] += WORD_WEIGHT * share(places) * of_pattern
        return cls(tuple(intents), known.vectors, coefficients, words)

    def logits(self, texts: Features) -> Scores:
        """Of shape (texts, intents)."""
        by_words = [self.words[places].sum(axis=0) * share(places) for places in texts.places]
        return np.asarray(nearby(texts.vectors, self.patterns) @ self.coefficients + by_words, dtype=np.float64)

    def to_bytes(self) -> bytes:
        """In half precision, as vectors have it in the database."""
        halves = {name: getattr(self, name).astype(np.float16) for name in ("patterns", "coefficients", "words")}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **halves)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, intents: Sequence[str], data: bytes) -> Learned:
        """Raises `ValueError` on what is not numbers in NumPy's own format, `KeyError` on other numbers."""
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            read = [arrays[name].astype(np.float32) for name in ("patterns", "coefficients", "words")]
        return cls(tuple(intents), *read)


def places_of(text: str) -> Labels:
    """The hashes of the words of a text, and of its pairs of neighbouring words; each once."""
    words = words_of(text)
    found = {*words, *(" ".join(pair) for pair in pairwise(words))}
    return np.array(sorted({crc32(word.encode()) % PLACES for word in found}), dtype=np.int64)


def share(places: Labels) -> float:
    """What each word of a text counts, so that all of them are a vector of length one."""
    return float(max(1, len(places)) ** -0.5)


def nearby(vectors: Matrix, others: Matrix) -> Matrix:
    """How near unit vectors are, from just over 0 to 1."""
    return np.asarray(np.exp(2 * STEEPNESS * (vectors @ others.T - 1)), dtype=np.float32)


def likeness(known: Features) -> Matrix:
    """How alike each text is to each other: a matrix that is symmetric and positive definite."""
    with_place: dict[int, list[int]] = {}
    for row, places in enumerate(known.places):
        for place in places.tolist():
            with_place.setdefault(place, []).append(row)
    common = np.zeros((len(known), len(known)), dtype=np.float32)
    for rows in with_place.values():
        common[np.ix_(rows, rows)] += 1
    shares = np.array([share(places) for places in known.places], dtype=np.float32)
    common *= WORD_WEIGHT * np.outer(shares, shares)
    return nearby(known.vectors, known.vectors) + common
