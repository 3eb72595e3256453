"""manage.py sweep_reservations"""

from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone
from tqdm import tqdm

from accounts.management.plain import PlainCommand
from inference import services
from quotas import services as quotas
from quotas.models import Reservation


class Command(PlainCommand):
    help = (
        "End what lost processes left behind: calls that never came to an end are charged with what they sent, and "
        "holds whose time is over are let go. The beat does it every 30 seconds, so this is for when no worker has run "
        "for a while. Nothing that still runs is touched. Repeating it changes nothing."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="change nothing, only count")

    def handle(self, *args: Any, **options: Any) -> None:
        now = timezone.now()
        count = Reservation.objects.expired(now).count()
        if options["dry_run"]:
            self.stdout.write(f"{count:,} holds are over.")
            return
        calls = holds = 0
        with tqdm(total=count, unit=" holds", disable=None) as bar:
            while done := services.sweep_abandoned(now=now):
                calls += done
                bar.update(done)
            while done := quotas.sweep_expired(now=now):
                holds += done
                bar.update(done)
        self.stdout.write(f"{calls:,} lost calls were ended, and {holds:,} other holds let go.")
