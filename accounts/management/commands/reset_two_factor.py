"""manage.py reset_two_factor"""

from typing import Any

from django.core.management.base import CommandError, CommandParser

from accounts import two_factor
from accounts.management.plain import PlainCommand
from accounts.models import User


class Command(PlainCommand):
    help = (
        "Switch two-factor sign-in off for a user who has lost both the authenticator app and the recovery codes. "
        "Until they set it up anew, the password alone lets them in. Superusers do the same on a user's admin page."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email", metavar="EMAIL", help="whom it is for")

    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.filter(email=options["email"].strip().lower()).first()
        if user is None:
            raise CommandError(f"There is no user {options['email']}.")
        two_factor.disable(user=user, by=None)
        self.stdout.write(f"Two-factor sign-in of {user} is off.")
