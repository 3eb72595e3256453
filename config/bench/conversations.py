"""`manage.py bench conversations`: how fast conversations come in, with the index of their words, and go out."""

from __future__ import annotations

import random
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from pathlib import Path
from typing import IO, Any

import orjson
from django.db import connection

from accounts.exceptions import InvalidInput
from accounts.models import User
from config.bench import machine
from config.bench.installation import Installation
from config.bench.search_sets import SYLLABLES
from config.embedded.process import StartProblemError
from conversations.transfer.exporting import ExportFormat, exported
from conversations.transfer.formats import OWN, VERSION
from conversations.transfer.importing import Imported, import_conversations

# As many as the data set has that was named when this was promised; about as long as people's messages in chats are.
MESSAGES, QUICK_MESSAGES = 258_145, 10_000
MOST_MESSAGES_EACH, MOST_WORDS = 70, 24
VOCABULARY = 20_000
PROMISED = {"messages_per_second": 8_000}

Say = Callable[[str], None]


def run(path: Path | None, *, quick: bool, say: Say) -> dict[str, Any]:
    """Import a file, or as many made-up messages, for one user. Raises `StartProblemError`."""
    load_before = machine.load()
    installation = Installation(say)
    installation.supervisor.catch_signals()
    try:
        installation.start()
        with tempfile.TemporaryFile() if path is None else _opened(path) as file:
            if path is None:
                write(file, QUICK_MESSAGES if quick else MESSAGES)
                file.seek(0)
            figures = measure(file, say)
        return machine.describe() | {"load_before": load_before, "promised": PROMISED} | figures
    finally:
        installation.stop()


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        raise StartProblemError(f"{path}: {error.strerror}.") from None


def measure(file: IO[bytes], say: Say) -> dict[str, Any]:
    """Import and export, and find each message by a word of it. Memory is what the process grew by at most, in MB."""
    user = User.objects.create_user("bench@example.com", None)
    memory, begun = _peak(), time.perf_counter()
    try:
        done = import_conversations(user_id=user.pk, by=None, file=file, channel="web")
    except InvalidInput as error:
        raise StartProblemError(f"The file cannot be imported: {error}") from None
    seconds = time.perf_counter() - begun
    say(f"{done.messages:,} messages came in in {seconds:.1f} s.")
    grown = _peak() - memory
    _check(done)
    begun = time.perf_counter()
    size = sum(len(piece) for piece in exported(ExportFormat.JSONL, user.pk))
    export_seconds = time.perf_counter() - begun
    say(f"{size / 1e6:.0f} MB went out in {export_seconds:.1f} s.")
    return {
        "conversations": done.conversations,
        "messages": done.messages,
        "megabytes": round(size / 1e6, 1),
        "import": {"messages_per_second": round(done.messages / seconds), "memory_mb": round(grown, 1)},
        "export": {"messages_per_second": round(done.messages / export_seconds)},
    }


def _check(done: Imported) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*), count(*) FILTER (WHERE tsv IS NOT NULL) FROM conversations_message")
        kept, indexed = cursor.fetchone()
    if not kept == indexed == done.messages:
        raise StartProblemError(f"Of {done.messages:,} messages {kept:,} were kept, and {indexed:,} can be searched.")


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def write(file: IO[bytes], count: int) -> None:
    """Conversations with `count` messages in all, in our own format, the same each time."""
    for talk in made_up(count):
        file.write(orjson.dumps(talk) + b"\n")


def made_up(count: int) -> Iterator[dict[str, Any]]:
    """Two people in turn, in words of which few are frequent and many are rare."""
    chance = random.Random(1)  # noqa: S311 - no secret
    words = [_word(chance) for _ in range(VOCABULARY)]
    weights = list(accumulate(1 / place for place in range(1, VOCABULARY + 1)))
    time = datetime(2020, 1, 1, tzinfo=UTC)
    while count:
        size = min(count, chance.randint(2, MOST_MESSAGES_EACH))
        count, messages = count - size, []
        for number in range(1, size + 1):
            time += timedelta(seconds=chance.randint(1, 90))
            text = " ".join(chance.choices(words, cum_weights=weights, k=chance.randint(1, MOST_WORDS)))
            messages.append(
                {
                    "sequence": number,
                    "parent": number - 1 or None,
                    "role": "user" if number % 2 else "assistant",
                    "content": text,
                    "created_at": time.isoformat(),
                }
            )
        yield {"format": OWN, "version": VERSION, "started_at": time.isoformat(), "messages": messages, "head": size}


def _word(chance: random.Random) -> str:
    return "".join(chance.choices(SYLLABLES, k=chance.randint(1, 4)))
