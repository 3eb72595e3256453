"""Named by `-p` in pyproject.toml, so that the servers run before pytest-django reads the settings."""

import os

from config.embedded import testing

testing.ensure_servers()

os.environ |= {
    "SECRET_KEY": "the-secret-of-the-tests",
    "JWT_SECRET_KEY": "the-secret-of-the-tokens-of-the-tests",
    "FIELD_ENCRYPTION_KEYS": "dGhlLWVuY3J5cHRpb24ta2V5LW9mLXRoZS10ZXN0cyE=",
}

# Workers of pytest-xdist share the Redis server, each with a database of its own: tests empty theirs.
if worker := os.environ.get("PYTEST_XDIST_WORKER"):
    os.environ["REDIS_URL"] = os.environ["REDIS_URL"].replace("db=0", f"db={1 + int(worker.removeprefix('gw')) % 15}")


def pytest_unconfigure() -> None:
    testing.stop_servers()
