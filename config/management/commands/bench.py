"""manage.py bench"""

import os
import sys
import time
from pathlib import Path
from typing import Any

import orjson
from django.core.management.base import BaseCommand, CommandParser

from config.bench import conversations, installation, metered, prompts, quotas, ratelimit, report
from config.embedded.preparation import explain_os_error
from config.embedded.process import StartProblemError
from config.embedded.supervisor import StopRequestedError


class Command(BaseCommand):
    help = (
        "Measure. Everything that is needed is started for it, on data of its own, and stopped at the end. "
        "Progress goes to standard error, the result to standard output."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        benches = parser.add_subparsers(dest="bench", required=True, metavar="what")
        one = benches.add_parser("metered", help="calls through the metered road, beside the stub and the SQL alone")
        one.add_argument("--workers", type=int, default=2, help="web processes (default: 2)")
        one.add_argument("--web", help="another web server's module and arguments, with {port} and {workers}")
        two = benches.add_parser("quotas", help="holding and settling, beside the SQL of it alone")
        rates = benches.add_parser("ratelimit", help="decisions about rate limits, beside bare round trips to Redis")
        intents = benches.add_parser("prompts", help="intents, better prompts and searches, beside the promise")
        path = os.environ.get("CLINC150", prompts.DEFAULT_PATH)
        intents.add_argument("--clinc", type=Path, default=path, help="the data, gzipped JSON (default: %(default)s)")
        talks = benches.add_parser("conversations", help="importing and exporting, beside the promise")
        talks.add_argument("--file", type=Path, help="what is imported; else messages are made up")
        for bench in (one, two, rates, intents, talks):
            bench.add_argument("--json", action="store_true", help="the result as one JSON object")
            bench.add_argument("--quick", action="store_true", help="shorter, and so less exact")

    def handle(self, *args: Any, **options: Any) -> None:
        """Measure; whatever can go wrong outside of us is one sentence and exit code 1."""
        if not installation.is_inside():
            installation.enter()
        self.started_at = time.monotonic()
        try:
            result = self.measure(options)
        except StopRequestedError:
            sys.exit("Stopped.")
        except StartProblemError as problem:
            sys.exit(str(problem))
        except OSError as error:
            sys.exit(explain_os_error(error))
        table = getattr(report, options["bench"])
        self.stdout.write(orjson.dumps(result).decode() if options["json"] else table(result))

    def measure(self, options: dict[str, Any]) -> dict[str, Any]:
        if options["bench"] == "quotas":
            return quotas.run(quotas.QUICK if options["quick"] else quotas.FULL, self.say)
        if options["bench"] == "ratelimit":
            return ratelimit.run(quick=options["quick"], say=self.say)
        if options["bench"] == "prompts":
            return prompts.run(Path(options["clinc"]), quick=options["quick"], say=self.say)
        if options["bench"] == "conversations":
            return conversations.run(options["file"], quick=options["quick"], say=self.say)
        chosen = metered.Options(quick=options["quick"], workers=options["workers"], web=options["web"])
        return metered.run(chosen, self.say)

    def say(self, text: str) -> None:
        """One line of progress, with the seconds since the start."""
        self.stderr.write(f"{time.monotonic() - self.started_at:6.1f} s  {text}")
