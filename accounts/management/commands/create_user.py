"""manage.py create_user"""

import secrets
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import CommandError, CommandParser
from django.core.validators import validate_email

from accounts import services
from accounts.management.plain import PlainCommand, password_from_prompt, password_from_stdin
from accounts.roles import Role


class Command(PlainCommand):
    help = (
        "Create a user. The password is asked for, unless it is given in another way. Roles: "
        + "; ".join(f"{role.value} ({role.label})" for role in Role)
        + "."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email", metavar="EMAIL", help="the address to sign in with")
        parser.add_argument(
            "password",
            metavar="PASSWORD",
            nargs="?",
            help="for trying things out: other users of this machine and your shell's history can see it",
        )
        parser.add_argument("name", metavar="FULL_NAME", nargs="?", help="the same as --full-name")
        source = parser.add_mutually_exclusive_group()
        source.add_argument("--password-stdin", action="store_true", help="read it from the first line of the input")
        source.add_argument("--generate-password", action="store_true", help="make one, and print it once")
        parser.add_argument("--full-name", metavar="NAME", help="kept encrypted")
        parser.add_argument("--verified", action="store_true", help="the address needs no confirmation any more")
        parser.add_argument("--staff", action="store_true", help="may sign in to the admin, where a role says the rest")
        parser.add_argument("--superuser", action="store_true", help="may do everything in the admin")
        parser.add_argument("--role", choices=Role.values, help="what to be in the admin; implies --staff")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["name"] and options["full_name"]:
            raise CommandError("The name is given twice.")
        try:
            validate_email(options["email"])
        except ValidationError:
            raise CommandError(f"{options['email']!r} is not an e-mail address.") from None
        password = self.password(options)
        user = services.register_user(
            email=options["email"],
            password=password,
            full_name=options["full_name"] or options["name"] or "",
            role=Role(options["role"]) if options["role"] else None,
            is_staff=options["staff"] or options["superuser"],
            is_superuser=options["superuser"],
            is_verified=options["verified"],
        )
        self.stderr.write(f"Created {user.email}, id {user.pk}.", self.style.SUCCESS)
        if options["generate_password"]:
            self.stdout.write(password)

    def password(self, options: dict[str, Any]) -> str:
        given: str | None = options["password"]
        if given is not None:
            if options["password_stdin"] or options["generate_password"]:
                raise CommandError("The password is given twice.")
            self.stderr.write(
                "A password on the command line can be seen by others on this machine: rather use --password-stdin.",
                self.style.WARNING,
            )
            return given
        if options["generate_password"]:
            return secrets.token_urlsafe(15)
        return password_from_stdin() if options["password_stdin"] else password_from_prompt()
