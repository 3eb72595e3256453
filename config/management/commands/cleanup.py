"""manage.py cleanup"""

from typing import Any

from django.core.management.base import CommandParser

from accounts.management.plain import PlainCommand
from config.cleanup import clean_up


class Command(PlainCommand):
    help = (
        "Deal with what has expired: keys, tokens, sessions, one-time codes. The beat does it every hour; here it can "
        "be done at once. Prints how many rows each step dealt with. Repeating it changes nothing."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="change nothing, only count")

    def handle(self, *args: Any, **options: Any) -> None:
        done = clean_up(dry_run=options["dry_run"])
        if options["dry_run"]:
            self.stdout.write("Nothing is changed. It would be:")
        for what, count in done.items():
            self.stdout.write(f"{count:>9,}  {what}")
