"""The three people that the tests are about, and a clean start for each test."""

import pytest

from accounts.caller import redis_client
from accounts.models import User
from accounts.tests.factories import UserFactory
from inference.routes import forget_routes


@pytest.fixture(autouse=True)
def _clean_redis() -> None:
    """Every test begins with nothing cached, neither in Redis nor in this process."""
    redis_client().flushdb()
    forget_routes()


@pytest.fixture
def alice(db: None) -> User:
    """Owns things."""
    return UserFactory(email="alice@example.com")


@pytest.fixture
def bob(db: None) -> User:
    """Another user."""
    return UserFactory(email="bob@example.com")


@pytest.fixture
def olga(db: None) -> User:
    """An operator."""
    return UserFactory(email="olga@example.com", is_staff=True, is_superuser=True)
