"""manage.py reembed"""

import time
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser, OutputWrapper
from tqdm import tqdm

from accounts.management.plain import PlainCommand
from prompts.models import EmbeddingModel
from prompts.search.reembedding import reembed
from prompts.search.vectors import KEPT_AFTER

# Seconds between two lines of progress, where there is no terminal to draw on.
EVERY = 10


class Progress:
    """How far the work is, on standard error: a bar on a terminal, and elsewhere a line now and then."""

    def __init__(self, err: OutputWrapper) -> None:
        self.err = err
        self.bars: dict[str, tqdm[Any]] = {}
        self.said_at = time.monotonic()

    def say(self, what: str, done: int, count: int) -> None:
        bar = self.bars.get(what)
        if bar is None:
            if done:
                self.err.write(f"{done:,} of {count:,} {what} are there already.")
            bar = self.bars[what] = tqdm(desc=what.capitalize(), unit=" texts", file=self.err, disable=None)
        elif bar.disable and (done == count or time.monotonic() - self.said_at >= EVERY):
            self.err.write(f"{done:,} of {count:,} {what} are embedded.")
            self.said_at = time.monotonic()
        bar.total, bar.n = count, done
        bar.refresh()

    def close(self) -> None:
        for bar in self.bars.values():
            bar.close()


class Command(PlainCommand):
    help = (
        "Make the vectors of all prompts and intent patterns with another embedding model, and then search by those. "
        "Searches work meanwhile as before. If it is stopped, the next run goes on where it was. For the model that "
        "is in use already, what waits for a vector gets one."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        model = settings.EMBEDDING_MODEL
        parser.add_argument("--model", default=model, metavar="NAME", help="default: EMBEDDING_MODEL, now %(default)s")

    def handle(self, *args: Any, **options: Any) -> None:
        before, name = EmbeddingModel.objects.active_name(), options["model"]
        progress = Progress(self.stderr)
        try:
            reembed(name, progress.say)
        finally:
            progress.close()
        self.stdout.write(f"Searches go by the vectors of {name}.")
        if before != name:
            minutes = int(KEPT_AFTER.total_seconds() // 60)
            self.stdout.write(f"Those of {before} are deleted in {minutes} minutes. Set EMBEDDING_MODEL={name}, too.")
