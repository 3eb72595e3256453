"""What the commands have in common: how they fail, and how they are given a password."""

from __future__ import annotations

import sys
from getpass import getpass
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import InterfaceError, OperationalError, ProgrammingError

from accounts.exceptions import DomainError


class PlainCommand(BaseCommand):
    """A command whose failures are one sentence on standard error, and exit code 1."""

    def execute(self, *args: Any, **options: Any) -> str | None:
        try:
            return super().execute(*args, **options)
        except DomainError as refusal:
            raise CommandError(str(refusal)) from refusal
        except ProgrammingError as error:
            raise CommandError(f"The database is not as it should be (run `migrate`): {first_line(error)}") from error
        except (InterfaceError, OperationalError) as error:
            raise CommandError(f"The database cannot be reached: {first_line(error)}") from error
        except KeyboardInterrupt:
            raise CommandError("Stopped.") from None


def first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def password_from_stdin() -> str:
    """The first line of standard input, without its end."""
    password = sys.stdin.readline().rstrip("\r\n")
    if not password:
        raise CommandError("There is no password on standard input.")
    return password


def password_from_prompt() -> str:
    """A password that a person types in twice, unseen."""
    if not sys.stdin.isatty():
        raise CommandError("There is nobody to ask for a password: use --password-stdin.")
    password = getpass("Password: ")
    if password != getpass("Password again: "):
        raise CommandError("The two passwords are not the same.")
    if not password:
        raise CommandError("The password is empty.")
    return password
