"""manage.py reembed"""

from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser
from tqdm import tqdm

from accounts.management.plain import PlainCommand
from prompts.models import EmbeddingModel
from prompts.search.reembedding import reembed
from prompts.search.vectors import KEPT_AFTER


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
        bars: dict[str, tqdm[Any]] = {}

        def say(what: str, done: int, count: int) -> None:
            if what not in bars:
                bars[what] = tqdm(desc=what.capitalize(), unit=" texts", file=self.stderr, disable=None)
            bars[what].total = count
            bars[what].n = done
            bars[what].refresh()

        try:
            reembed(name, say)
        finally:
            for bar in bars.values():
                bar.close()
        self.stdout.write(f"Searches go by the vectors of {name}.")
        if before != name:
            minutes = int(KEPT_AFTER.total_seconds() // 60)
            self.stdout.write(f"Those of {before} are deleted in {minutes} minutes. Set EMBEDDING_MODEL={name}, too.")
