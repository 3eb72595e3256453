"""manage.py generate_password_hash"""

import sys
from typing import Any

from django.contrib.auth.hashers import make_password
from django.core.management.base import CommandError, CommandParser

from accounts.management.plain import PlainCommand, password_from_prompt, password_from_stdin
from accounts.passwords import LONGEST


class Command(PlainCommand):
    help = (
        "Print the hash of a password, as the database keeps it. The password is asked for, or read from the first "
        "line of standard input. Needs no database, and does not judge the password."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "password",
            metavar="PASSWORD",
            nargs="?",
            help="for trying things out: other users of this machine and your shell's history can see it",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        password: str | None = options["password"]
        if password is None:
            password = password_from_prompt() if sys.stdin.isatty() else password_from_stdin()
        if len(password) > LONGEST:
            raise CommandError(f"This password is too long. It may have at most {LONGEST:,} characters.")
        self.stdout.write(make_password(password))
