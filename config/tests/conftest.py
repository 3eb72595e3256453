import pytest

from config.bench import installation


@pytest.fixture
def inside(monkeypatch):
    """As in the process that `bench` starts to measure in."""
    monkeypatch.setenv(installation.INSIDE, "1")
