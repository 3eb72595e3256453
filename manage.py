#!/usr/bin/env python
"""Django's command line for Mainstay. `manage.py help` lists the commands."""

import os
import sys


def main() -> None:
    """Run one command."""
    if sys.version_info < (3, 11):  # noqa: UP036 - the one place that an old Python reaches
        sys.exit("Mainstay needs Python 3.11 or newer, and this is Python " + sys.version.split()[0] + ".")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    try:
        from django.core.management import execute_from_command_line
    except ImportError:
        sys.exit("Django is not installed for " + sys.executable + ": use `make run`, or .venv/bin/python manage.py.")
    from django.core.exceptions import ImproperlyConfigured

    if sys.argv[1:2] == ["up"] and not {"-h", "--help"} & set(sys.argv):
        prepare()
    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as problem:
        sys.exit(str(problem))


def prepare() -> None:
    """Make what the settings of a new installation read, before they are read."""
    from config.embedded import preparation
    from config.embedded.process import StartProblemError

    try:
        preparation.prepare()
    except StartProblemError as problem:
        sys.exit(str(problem))


if __name__ == "__main__":
    main()
