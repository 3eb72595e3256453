import os
import shutil
import socket
import tempfile
from pathlib import Path

import pytest

# What the suite's own servers have put there, and what a person may have set.
FOREIGN = ("DATABASE_URL", "POSTGRES_", "REDIS_", "MODELS_", "MAINSTAY_", "PORT", "HOST", "OPERATOR_EMAIL")
FOREIGN += ("SECRET_KEY", "JWT_SECRET_KEY", "FIELD_ENCRYPTION_KEYS", "DJANGO_DEBUG")


@pytest.fixture
def home():
    """An empty directory with a short path, which the account of the servers may enter (pytest's own it may not)."""
    path = Path(tempfile.mkdtemp(prefix="mst-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def bare_environment(home):
    """The environment of somebody who has set nothing, with `home` as the data directory."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    return kept | {"MAINSTAY_DATA_DIR": str(home / "data"), "PORT": str(free_port())}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
