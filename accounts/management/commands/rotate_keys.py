"""manage.py rotate_keys"""

from typing import Any

from django.core.management.base import CommandError, CommandParser
from tqdm import tqdm

from accounts import rotation
from accounts.management.plain import PlainCommand


class Command(PlainCommand):
    help = (
        "Encrypt every encrypted value of the database anew, with the first key of FIELD_ENCRYPTION_KEYS. "
        "To change the key: put a new one in front of the others, restart all processes, run this, and when it "
        "succeeds remove the old key and restart again. It may run beside a busy installation, be stopped and be "
        "repeated: what is under the first key already is left alone. Fails, and names the rows, if a value cannot be "
        "read with any of the keys."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="change nothing, only count and name what it would")

    def handle(self, *args: Any, **options: Any) -> None:
        with tqdm(total=rotation.count_values(), unit=" values", disable=None) as bar:
            done = rotation.rotate(dry_run=options["dry_run"], progress=bar.update)
        what = "would be encrypted anew" if options["dry_run"] else "encrypted anew"
        for column, rotated in done.rotated.items():
            self.stdout.write(
                f"{column}: {rotated} {what}, {done.current[column]} under the newest key before, "
                f"{sum(found.column == column for found in done.unreadable)} unreadable"
            )
        for found in done.unreadable:
            why = "plain text" if found.why == "plain text" else "no key of FIELD_ENCRYPTION_KEYS decrypts it"
            self.stderr.write(f"{found.column} of {found.pk}: {why}")
        if done.unreadable:
            raise CommandError(
                f"{len(done.unreadable)} values cannot be read. Keep every key until none is left: "
                "add the key that is missing, or give these fields a new value."
            )
