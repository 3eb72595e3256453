"""`manage.py bench` as somebody would run it."""

import os
import subprocess
import sys

from config.embedded.paths import REPOSITORY


def bench(data_dir, *options, what="metered"):
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("POSTGRES_", "REDIS_"))}
    command = [sys.executable, str(REPOSITORY / "manage.py"), "bench", what, *options]
    outside["MAINSTAY_DATA_DIR"] = str(data_dir)
    return subprocess.Popen(command, env=outside, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
