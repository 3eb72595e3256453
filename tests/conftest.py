"""What tests need that run against a real web server."""

from collections.abc import Callable, Iterator

import pytest

from accounts import services as accounts
from accounts.tests.factories import UserFactory
from inference.models import Model, Provider
from inference.stub import StubServer
from quotas.models import Quota
from quotas.tests.factories import QuotaFactory
from tests.web import WebServer

LLM_MODELS = (
    *("instant", "echo", "tools", "no-usage", "slow-300", "paced-5", "paced-20", "hang", "hang-midstream", "die"),
    *("die-midstream", "garbage", "garbage-midstream", "garbage-stream", "early-end", "error-500", "error-429"),
    *("error-401", "error-404", "refuse-400"),
)


@pytest.fixture(scope="session")
def stub() -> Iterator[StubServer]:
    with StubServer() as server:
        yield server


@pytest.fixture(scope="session")
def _web(django_db_setup: None, django_db_blocker, stub: StubServer) -> Iterator[WebServer]:
    with django_db_blocker.unblock():
        server = WebServer(CALL_DEADLINE_SECONDS="2", HOLD_GRACE_SECONDS="1")
    with server:
        yield server


@pytest.fixture
def web(_web: WebServer, transactional_db: None, stub: StubServer) -> WebServer:
    """A web process whose calls may take two seconds, with every behaviour of the stub as a model."""
    del stub.requests[:], stub.closed_early[:]
    serve_models(stub)
    return _web


def serve_models(stub: StubServer) -> None:
    provider = Provider.objects.create(name="stub", base_url=stub.base_url, api_key="sk-of-the-provider")
    rows = [Model(name=name, upstream_name=name, provider=provider) for name in LLM_MODELS]
    rows += [
        Model(name=name, upstream_name=name, provider=provider, kind="embedding")
        for name in ("vectors", "float-only-vectors")
    ]
    Model.objects.bulk_create(rows)


class Account:
    """A user with a key and quotas of their own."""

    def __init__(self, requests: int = 10_000, tokens: int = 10**9) -> None:
        self.user = UserFactory()
        self.requests = QuotaFactory(user=self.user, unit="requests", limit=requests)
        self.tokens = QuotaFactory(user=self.user, unit="tokens", limit=tokens)
        self.vectors = QuotaFactory(user=self.user, unit="tokens", resource_type="embedding", limit=tokens)
        self.key = accounts.create_api_key(user_id=self.user.pk, name="test", by=self.user)[1]

    def usage(self) -> dict[str, tuple[int, int]]:
        """Used and held, by meter."""
        return {
            f"{quota.resource_type}.{quota.unit}": (quota.current_usage, quota.held)
            for quota in Quota.objects.filter(user=self.user)
        }


@pytest.fixture
def account(transactional_db: None) -> Account:
    return Account()


@pytest.fixture
def make_account(transactional_db: None) -> Callable[..., Account]:
    return Account
