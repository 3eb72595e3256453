"""manage.py reset_quotas"""

from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone
from tqdm import tqdm

from accounts.management.plain import PlainCommand
from quotas import services
from quotas.models import Quota


class Command(PlainCommand):
    help = (
        "Begin a new period for every quota whose period is over, and let expired grants go. The beat does it every "
        "five minutes, and a call does it for its caller, so this is for when no worker has run for a while. "
        "Usage of a period that still runs is not touched. Repeating it changes nothing."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="change nothing, only count")

    def handle(self, *args: Any, **options: Any) -> None:
        now = timezone.now()
        count = Quota.objects.due(now).count()
        if options["dry_run"]:
            self.stdout.write(f"{count:,} quotas would begin a new period.")
            return
        with tqdm(total=count, unit=" quotas", disable=None) as bar:
            done = services.reset_due(now=now, progress=bar.update)
        self.stdout.write(f"{done:,} quotas began a new period.")
