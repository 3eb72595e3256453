"""manage.py sync_stripe"""

from collections.abc import Iterator
from typing import Any

from django.core.management.base import CommandError, CommandParser
from tqdm import tqdm

from accounts.management.plain import PlainCommand
from accounts.models import User
from quotas import stripe_api, stripe_catchup
from quotas.exceptions import BillingNotConfigured
from quotas.stripe_catchup import Synced


class Command(PlainCommand):
    help = (
        "Read all subscriptions from Stripe, and write down how they are. Webhooks do that by themselves; this makes "
        "good for those that were lost, and the beat does it once a day. Repeating it changes nothing. Fails, and "
        "names the customers, if something at Stripe has no place here, such as a price that no plan has."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--user", metavar="EMAIL", help="only what this user pays for")

    def handle(self, *args: Any, **options: Any) -> None:
        if not stripe_api.is_configured():
            raise BillingNotConfigured
        done = list(tqdm(self.synced(options["user"]), unit=" customers", disable=None))
        failed = [one for one in done if one.reason]
        for one in failed:
            self.stderr.write(f"{one.customer_id}: {one.reason}")
        self.stdout.write(f"{_customers(len(done) - len(failed))} written down as they are at Stripe.")
        if failed:
            raise CommandError(f"{_customers(len(failed))} could not be written down.")

    def synced(self, email: str | None) -> Iterator[Synced]:
        if email is None:
            return stripe_catchup.sync_all()
        user = User.objects.filter(email=email.strip().lower()).first()
        if user is None:
            raise CommandError(f"There is no user {email}.")
        return stripe_catchup.sync_user(user.pk)


def _customers(count: int) -> str:
    return "1 customer" if count == 1 else f"{count:,} customers"
