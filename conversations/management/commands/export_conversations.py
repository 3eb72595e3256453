"""manage.py export_conversations"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser
from tqdm import tqdm

from accounts import audit
from accounts.management.plain import PlainCommand
from accounts.models import User
from conversations.transfer.exporting import ExportFormat, exported


class Command(PlainCommand):
    help = (
        "Write all conversations of a user to a file, without those that are deleted. JSON Lines have everything, and "
        "can be imported again; Markdown has the current branches. The file must not be there yet, and only its owner "
        "may read it."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, metavar="FILE")
        parser.add_argument("--user", required=True, metavar="EMAIL", help="whose conversations")
        parser.add_argument("--format", choices=["jsonl", "markdown"], default="jsonl", help="default: %(default)s")

    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.filter(email=options["user"].strip().lower()).first()
        if user is None:
            raise CommandError(f"There is no user {options['user']}.")
        kind, path = ExportFormat(options["format"]), options["file"]
        audit.record("conversation.exported", by=None, user=str(user.pk), format=kind.value, is_all=True)
        try:
            with (
                os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file,
                tqdm(unit="B", unit_scale=True, file=self.stderr, disable=None) as bar,
            ):
                for piece in exported(kind, user.pk):
                    bar.update(file.write(piece))
                size = file.tell()
        except OSError as error:
            raise CommandError(f"{path}: {error.strerror}.") from None
        self.stdout.write(f"Exported {size:,} bytes to {path}.")
