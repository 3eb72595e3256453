"""A model server for replies."""

import pytest

from inference.models import Model, Provider
from inference.stub import StubServer


@pytest.fixture(scope="module")
def stub():
    with StubServer() as server:
        yield server


@pytest.fixture
def models(transactional_db, stub):
    del stub.requests[:]
    provider = Provider.objects.create(name="stub", base_url=stub.base_url)
    for name in ("instant", "echo", "tools", "die-midstream", "error-500", "garbage"):
        Model.objects.create(name=name, upstream_name=name, provider=provider, context_window=8192)
