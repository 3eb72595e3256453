"""Labelled sets for searches: texts, questions, and which texts answer which question.

Each has two parts with nothing in common: weights were chosen on `tuning`, and the bench measures on `testing`.
"""

from __future__ import annotations

import importlib
import inspect
import random
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType

Rows = list[tuple[str, str]]

EACH = 20
# Words of this many letters make a title.
WORDS_OF_A_TITLE = 4
# Of a docstring, which is encoded in a time that grows with its length.
MOST_CHARACTERS = 1_500
# With which docstrings of functions that are not written in Python begin.
SIGNATURE = re.compile(r"\A\w+\(.*?\n\n", re.DOTALL)
SYLLABLES = (
    "ba",
    "cor",
    "del",
    "fen",
    "gra",
    "hul",
    "jin",
    "kes",
    "lor",
    "mav",
    "nox",
    "pri",
    "quo",
    "ruv",
    "tal",
    "vex",
)
DOCUMENTED = {
    "tuning": (
        "argparse",
        "asyncio",
        "collections",
        "datetime",
        "email",
        "http.client",
        "inspect",
        "itertools",
        "json",
    ),
    "testing": ("numpy", "numpy.linalg", "numpy.random", "numpy.fft", "numpy.polynomial", "numpy.ma"),
}
DOCUMENTED_MORE = {
    "tuning": (
        "logging",
        "pathlib",
        "random",
        "re",
        "shutil",
        "socket",
        "statistics",
        "string",
        "subprocess",
        "typing",
    ),
    "testing": ("numpy.char", "numpy.strings", "numpy.testing", "numpy.lib.npyio", "numpy.lib.stride_tricks"),
}


@dataclass(frozen=True, slots=True)
class Labelled:
    """Titles and texts, and questions with the places of the texts that answer them."""

    name: str
    texts: Rows
    questions: list[tuple[str, frozenset[int]]]


def same_intent(data: dict[str, Rows], part: str, most: int) -> Labelled:
    """CLINC150: `EACH` sentences an intent, and questions that somebody else asked with the same intent."""
    shuffled = random.Random(part)  # noqa: S311 - no secret
    of_intent: dict[str, list[str]] = defaultdict(list)
    for text, intent in data["train"]:
        of_intent[intent].append(text)
    half = slice(0, EACH) if part == "tuning" else slice(EACH, 2 * EACH)
    known = [(text, intent) for intent in sorted(of_intent) for text in of_intent[intent][half]]
    places: dict[str, set[int]] = defaultdict(set)
    for place, (_text, intent) in enumerate(known):
        places[intent].add(place)
    asked = shuffled.sample(data["val" if part == "tuning" else "test"], most)
    questions = [(text, frozenset(places[intent])) for text, intent in asked]
    return Labelled("same intent (CLINC150)", [(title_of(text), text) for text, _intent in known], questions)


def documentation(part: str, most: int) -> Labelled:
    """Docstrings of installed libraries: the question is the first sentence, its answer the rest of the same."""
    texts: Rows = []
    sentences = []
    for name, text in sorted(_docstrings((*DOCUMENTED[part], *DOCUMENTED_MORE[part])).items()):
        first, _, rest = SIGNATURE.sub("", inspect.cleandoc(text)).partition("\n\n")
        if len(first.split()) >= 4 and len(rest.split()) >= 10:
            texts.append((name, rest[:MOST_CHARACTERS]))
            sentences.append(" ".join(first.split())[:300])
    asked = random.Random(part).sample(range(len(texts)), min(most, len(texts)))  # noqa: S311 - no secret
    return Labelled(
        "what does it do (docstrings)", texts, [(sentences[place], frozenset({place})) for place in sorted(asked)]
    )


def rare_words(data: dict[str, Rows], part: str, most: int) -> Labelled:
    """Sentences with made-up names and numbers in them; questions are these, alone or beside another word."""
    made = random.Random(f"{part} words")  # noqa: S311 - no secret
    half = data["train"][::2] if part == "tuning" else data["train"][1::2]
    texts: Rows = []
    questions: list[tuple[str, frozenset[int]]] = []
    for text, _intent in made.sample(half, 2 * most):
        word = made.choice((_name, _code, _function))(made)
        places = frozenset(range(len(texts), len(texts) + made.choice((1, 1, 2, 4))))
        words = [other for other in text.split() if len(other) > 4] or text.split()
        for _place in places:
            other = made.choice(half)[0]
            parts = made.sample([f"{text} {word}", other], 2)
            texts.append((title_of(made.choice(parts)), ". ".join(parts)))
        question = made.choice((word, f"{word} {made.choice(words)}", f"{made.choice(words)} {word}"))
        questions.append((question, places))
    return Labelled("names and numbers (made up)", texts, questions[:most])


def title_of(text: str) -> str:
    return " ".join(text.split()[:WORDS_OF_A_TITLE])


def _docstrings(names: tuple[str, ...]) -> dict[str, str]:
    """By its qualified name, what each public function and class of the modules says of itself, once each."""
    found: dict[str, str] = {}
    for name in names:
        for own, text in _of_module(importlib.import_module(name)):
            if text not in found.values():
                found[f"{name}.{own}"] = text
    return found


def _of_module(module: ModuleType) -> Iterator[tuple[str, str]]:
    for name, value in sorted(vars(module).items()):
        if not name.startswith("_") and not inspect.ismodule(value) and callable(value):
            if isinstance(text := getattr(value, "__doc__", None), str):
                yield name, text
            for inner, method in sorted(vars(value).items()) if inspect.isclass(value) else ():
                if not inner.startswith("_") and isinstance(text := getattr(method, "__doc__", None), str):
                    yield f"{name}.{inner}", text


def _name(made: random.Random) -> str:
    return "".join(made.choices(SYLLABLES, k=3)).capitalize()


def _code(made: random.Random) -> str:
    return f"{''.join(made.choices('ABCDEFGHKLMNPRSTUVWXYZ', k=3))}-{made.randrange(1000, 9999)}"


def _function(made: random.Random) -> str:
    return f"{made.choice(SYLLABLES)}{made.choice(SYLLABLES)}_{made.choice(('load', 'parse', 'send', 'merge'))}()"
