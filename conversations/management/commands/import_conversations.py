"""manage.py import_conversations"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser
from tqdm import tqdm

from accounts.management.plain import PlainCommand
from accounts.models import User
from conversations.transfer.formats import Format
from conversations.transfer.importing import import_conversations


class Command(PlainCommand):
    help = (
        "Keep the conversations of a file for a user: an export of Mainstay's own (JSON Lines), conversations.json of "
        "a ChatGPT export, or OpenAI's messages. All of them or none; a file that is imported twice is there twice. It "
        "may be far larger than memory."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, metavar="FILE", help="JSON or JSON Lines, in UTF-8")
        parser.add_argument("--user", required=True, metavar="EMAIL", help="whose conversations they become")
        parser.add_argument(
            "--format", choices=[kind.value for kind in Format], help="else it shows in each conversation"
        )
        parser.add_argument("--channel", default="api", help="where the file does not name one (default: %(default)s)")

    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.filter(email=options["user"].strip().lower()).first()
        if user is None:
            raise CommandError(f"There is no user {options['user']}.")
        path: Path = options["file"]
        try:
            with (
                path.open("rb") as file,
                tqdm(total=path.stat().st_size, unit="B", unit_scale=True, file=self.stderr, disable=None) as bar,
            ):

                def show(_conversations: int, messages: int) -> None:
                    bar.set_postfix_str(f"{messages:,} messages", refresh=False)
                    bar.update(file.tell() - bar.n)

                done = import_conversations(
                    user_id=user.pk,
                    by=None,
                    file=file,
                    channel=options["channel"],
                    kind=Format(options["format"]) if options["format"] else None,
                    say=show,
                )
        except OSError as error:
            raise CommandError(f"{path}: {error.strerror}.") from None
        self.stdout.write(f"Imported {done.conversations:,} conversations with {done.messages:,} messages.")
