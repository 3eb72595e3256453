"""The intent of a text by its words alone: for as long as there are no vectors to go by.

A bag of words, weighted by how rare each word is (tf-idf), and the cosine to each pattern. It knows nothing of meaning,
so what it says is marked as a fallback.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

WORD = re.compile(r"\w+")
NEIGHBOURS = 5


@dataclass(frozen=True, slots=True)
class Pattern:
    intent: str
    text: str


@dataclass(frozen=True, slots=True)
class Match:
    pattern: Pattern
    similarity: float


def words_of(text: str) -> list[str]:
    return WORD.findall(text.casefold())


@dataclass(slots=True)
class WordIndex:
    """The patterns by their words."""

    patterns: Sequence[Pattern]
    rarity: dict[str, float] = field(default_factory=dict)
    places: dict[str, list[tuple[int, float]]] = field(default_factory=lambda: defaultdict(list))

    @classmethod
    def of(cls, rows: Iterable[tuple[str, str]]) -> WordIndex:
        """Of intents and texts."""
        index = cls([Pattern(*row) for row in rows])
        counted = [Counter(words_of(pattern.text)) for pattern in index.patterns]
        spread = Counter(word for words in counted for word in words)
        index.rarity = {word: 1 + math.log(len(counted) / count) for word, count in spread.items()}
        for at, words in enumerate(counted):
            for word, weight in index._weights(words).items():
                index.places[word].append((at, weight))
        return index

    def nearest(self, text: str, *, most: int = NEIGHBOURS) -> list[Match]:
        """The patterns that share words with a text, nearest first; similarities are from 0 to 1."""
        sums: dict[int, float] = defaultdict(float)
        for word, weight in self._weights(Counter(words_of(text))).items():
            for at, other in self.places.get(word, ()):
                sums[at] += weight * other
        nearest = sorted(sums, key=lambda at: (-sums[at], at))[:most]
        return [Match(self.patterns[at], min(1.0, sums[at])) for at in nearest]

    def _weights(self, words: Counter[str]) -> dict[str, float]:
        """Of length one. A word that no pattern has is as rare as can be, and makes all of them less alike."""
        rarest = 1 + math.log(len(self.patterns) or 1)
        weights = {word: count * self.rarity.get(word, rarest) for word, count in words.items()}
        length = math.sqrt(sum(weight * weight for weight in weights.values())) or 1.0
        return {word: weight / length for word, weight in weights.items()}
