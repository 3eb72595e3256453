"""manage.py runmodels"""

import argparse
import os
import sys
from typing import Any

from django.core.management.base import BaseCommand

from config.embedded.paths import REPOSITORY

DEFAULT_PORT = 8011


class Command(BaseCommand):
    help = (
        "Serve the local models over the OpenAI protocol: chat (smollm2) and embeddings (use-multilingual). "
        "Runs in the foreground until Ctrl-C; `manage.py up` starts it by itself."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
        parser.add_argument(
            "--port",
            type=int,
            default=int(os.environ.get("MODELS_PORT") or DEFAULT_PORT),
            help=f"port to listen on (default: MODELS_PORT, or {DEFAULT_PORT})",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Become the server: it needs nothing of Django, and so keeps nothing of it in memory."""
        self.stderr.write(f"The models will answer on http://{options['host']}:{options['port']}/v1")
        self.stderr.flush()
        os.chdir(REPOSITORY)
        command = [sys.executable, "-m", "config.embedded.modelserver"]
        where = ["--host", options["host"], "--port", str(options["port"])]
        os.execv(sys.executable, [*command, *where])  # noqa: S606 - a program of our own
