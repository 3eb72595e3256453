"""manage.py create_api_key"""

from datetime import timedelta
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils import timezone

from accounts import services
from accounts.management.plain import PlainCommand
from accounts.models import User
from accounts.scopes import DEFAULT_SCOPES, Scope

LONGEST_DAYS = 36_500


class Command(PlainCommand):
    help = (
        "Make an API key for a user, and print it: this once, and never again. Scopes: "
        + "; ".join(f"{scope.value} ({scope.label})" for scope in Scope)
        + "."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email", metavar="EMAIL", help="whose key it is")
        parser.add_argument("--name", required=True, help="what it is for, so that it can be recognised later")
        parser.add_argument(
            "--scope",
            action="append",
            choices=Scope.values,
            help=f"what it is good for; may be repeated (default: {', '.join(DEFAULT_SCOPES)})",
        )
        parser.add_argument("--expires-in-days", type=int, metavar="N", help="good for so long (default: for ever)")

    def handle(self, *args: Any, **options: Any) -> None:
        user = self.user(options["email"])
        days: int | None = options["expires_in_days"]
        if days is not None and not 1 <= days <= LONGEST_DAYS:
            raise CommandError(f"--expires-in-days takes 1 to {LONGEST_DAYS:,}.")
        key, raw = services.create_api_key(
            user_id=user.pk,
            name=options["name"],
            scopes=list(dict.fromkeys(options["scope"] or ())) or None,
            expires_at=timezone.now() + timedelta(days=days) if days else None,
            by=None,
        )
        self.stderr.write(f"Created {key} for {user}: {', '.join(key.scopes)}.", self.style.SUCCESS)
        self.stdout.write(raw)

    def user(self, email: str) -> User:
        try:
            user = User.objects.get_by_natural_key(email)
        except User.DoesNotExist:
            raise CommandError(f"There is no user with the address {email}.") from None
        if not user.is_active:
            raise CommandError(f"{user} is not active, so no key of theirs would work.")
        return user
