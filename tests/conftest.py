"""What tests need that run against a real web server or in a real browser."""

import shutil
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from pytest_django.live_server_helper import LiveServer

from accounts import services as accounts
from accounts.models import User
from accounts.tests.factories import UserFactory
from inference.models import Model, Provider
from inference.stub import StubServer
from quotas.models import Quota
from quotas.tests.factories import QuotaFactory
from tests.browser import FLAGS, enter_password, open_tab
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


# A browser ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with pytest.MonkeyPatch.context() as patch, sync_playwright() as playwright:
        # The browser's event loop runs in this thread; nothing is awaited while the database is asked.
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def server(django_db_setup: None) -> Iterator[LiveServer]:
    """Not the fixture `live_server`: that one empties the database after our seeds are sown again."""
    server = LiveServer("127.0.0.1")
    yield server
    server.stop()


@pytest.fixture
def complaints() -> Iterator[list[str]]:
    """What went wrong in a tab. What a test does not take out of it fails the test."""
    found: list[str] = []
    yield found
    assert found == []


@pytest.fixture
def visitor(browser: Browser, server: LiveServer, transactional_db: None, complaints: list[str]) -> Iterator[Page]:
    """A browser tab of somebody who has not signed in."""
    tab = open_tab(browser, server.url, complaints)
    yield tab
    tab.context.close()


@pytest.fixture
def tab(visitor: Page, olga: User) -> Page:
    """A browser tab in which olga has signed in."""
    enter_password(visitor)
    visitor.wait_for_url("**/admin/")
    return visitor
