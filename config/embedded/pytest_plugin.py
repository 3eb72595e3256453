"""Named by `-p` in pyproject.toml, so that the servers run before pytest-django reads the settings."""

from config.embedded import testing

testing.ensure_servers()


def pytest_unconfigure() -> None:
    testing.stop_servers()
