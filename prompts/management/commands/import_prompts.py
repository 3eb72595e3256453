"""manage.py import_prompts"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser
from tqdm import tqdm

from accounts.management.plain import PlainCommand
from accounts.models import User
from prompts.exceptions import ImportRefused, RowError
from prompts.saved_import import import_prompts
from prompts.saved_rows import MOST_BYTES

SHOWN = 20


class Command(PlainCommand):
    help = (
        "Keep the prompts of a file as saved prompts of a user. The file is an export of saved prompts (JSON or CSV), "
        "or a CSV with the columns act and prompt, as public lists have them. What the user has already is skipped, so "
        "a file may be imported again. If rows are broken, nothing is, unless --partial asks for the good ones."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, metavar="FILE", help="JSON or CSV, in UTF-8")
        parser.add_argument("--user", required=True, metavar="EMAIL", help="whose prompts they become")
        parser.add_argument("--partial", action="store_true", help="leave out broken rows")
        parser.add_argument("--collection", default="", metavar="NAME", help="put all in this one, made if need be")

    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.filter(email=options["user"].strip().lower()).first()
        if user is None:
            raise CommandError(f"There is no user {options['user']}.")
        data = self.read(options["file"])
        try:
            with tqdm(unit=" prompts", file=self.stderr, disable=None) as bar:
                done = import_prompts(
                    user_id=user.pk,
                    by=None,
                    data=data,
                    is_partial=options["partial"],
                    into=options["collection"].strip(),
                    say=partial(show, bar),
                )
        except ImportRefused as refusal:
            self.name_rows(refusal.rows)
            raise CommandError(str(refusal)) from None
        self.name_rows(done.errors)
        if done.failed and not (done.imported or done.skipped):
            raise CommandError("Nothing was imported: all rows are broken.")
        self.stdout.write(
            f"Imported {done.imported:,}, skipped {done.skipped:,} that were there already, left out {done.failed:,} "
            f"broken; collections made: {done.collections:,}."
        )

    def read(self, path: Path) -> bytes:
        try:
            with path.open("rb") as file:
                return file.read(MOST_BYTES + 1)
        except OSError as error:
            raise CommandError(f"{path}: {error.strerror}.") from None

    def name_rows(self, rows: list[RowError]) -> None:
        for error in rows[:SHOWN]:
            self.stderr.write(f"Row {error.row}: {error.message}", self.style.WARNING)
        if rows[SHOWN:]:
            self.stderr.write(f"… and {len(rows) - SHOWN:,} more.", self.style.WARNING)


def show(bar: Any, count: int, total: int) -> None:
    """How many there are is known only when the file was read."""
    bar.total = total
    bar.update(count)
