"""What a measurement ran on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import django
from django.db import connection


def load() -> float:
    """How many processes wanted to run in the last minute: how much others disturbed us."""
    return round(os.getloadavg()[0], 2)


def describe(server: str | None = None) -> dict[str, Any]:
    """The machine, the versions and, where one is measured, the web server."""
    with connection.cursor() as cursor:
        cursor.execute("SHOW server_version")
        postgres = cursor.fetchone()[0].split()[0]
    described: dict[str, Any] = {
        "machine": {"cores": len(os.sched_getaffinity(0)), "processor": _processor()},
        "versions": {
            "python": platform.python_version(),
            "django": django.__version__,
            "postgresql": postgres,
        },
    }
    if server is not None:
        described["server"] = server
        described["versions"][server] = _version(server)
    return described


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
