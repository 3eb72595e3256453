"""manage.py manage_partitions"""

from typing import Any

from django.core.management.base import CommandError

from accounts.management.plain import PlainCommand
from conversations import partitions


class Command(PlainCommand):
    help = (
        "Make the partitions of messages for the months to come, move what is in the default partition to its month, "
        "and drop the months that MESSAGE_RETENTION_MONTHS lets go. The beat does it every hour. Repeating it changes "
        "nothing."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        done = partitions.manage()
        for name in done.made:
            self.stdout.write(f"{name} made.")
        if done.moved:
            self.stdout.write(f"{done.moved:,} messages moved to their month.")
        for name in done.dropped:
            self.stdout.write(f"{name} dropped.")
        self.stdout.write(
            f"There are partitions for {partitions.months_ahead()} months ahead; "
            f"{partitions.unplaced():,} messages are in none."
        )
        if done.problems:
            raise CommandError("\n".join(done.problems))
