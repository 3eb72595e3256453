"""Calls of the API out of the pages of other origins."""

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import Client

from config.environment import env_origins
from config.handlers import RoadHandler
from config.middleware import RequestMiddleware
from config.tests.test_asgi import call

APP = "https://app.example.com"
PREFLIGHT = {"Origin": APP, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
TAKEN = {"authorization", "x-api-key", "x-on-behalf-of", "x-conversation-id", "idempotency-key", "x-request-id"}
TAKEN |= {"mcp-protocol-version", "mcp-method", "mcp-name"}

pytestmark = pytest.mark.django_db


@pytest.fixture
def allowed(settings):
    settings.CORS_ALLOWED_ORIGINS = [APP]


@pytest.fixture
def road(monkeypatch):
    """The handler of `/v1`, with the settings of the test."""
    from config import asgi

    def load():
        monkeypatch.setattr(asgi, "road_application", RoadHandler())
        return asgi

    return load


def names(text):
    return {name.strip().lower() for name in text.split(",")}


@pytest.mark.parametrize("path", ["/api/v1/users/me", "/api/v1/nothing", "/mcp"])
def test_an_allowed_origin_may_ask_and_read(allowed, path):
    asked, answered = Client().options(path, headers=PREFLIGHT), Client().get(path, headers={"Origin": APP})

    assert asked.status_code == 200
    assert names(asked["Access-Control-Allow-Headers"]) >= TAKEN | {"content-type"}
    assert names(asked["Access-Control-Allow-Methods"]) >= {"get", "post", "put", "patch", "delete"}
    assert "X-Request-ID" in asked
    assert answered.status_code in {401, 404, 405}
    exposed = names(answered["Access-Control-Expose-Headers"])
    assert exposed >= {"x-request-id", "retry-after", "x-should-retry", "x-quota-reset", "x-ratelimit-limit-tokens"}
    assert "idempotent-replayed" in exposed
    for answer in (asked, answered):
        assert answer["Access-Control-Allow-Origin"] == APP
        assert "origin" in names(answer["Vary"])
        assert "Access-Control-Allow-Credentials" not in answer


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "http://app.example.com", f"{APP}.evil.example", f"{APP}:8443", "null", "x", "["]
)
def test_no_other_origin_may(allowed, origin):
    asked = Client().options("/api/v1/plans", headers=PREFLIGHT | {"Origin": origin})
    answered = Client().get("/api/v1/plans", headers={"Origin": origin})

    assert "Access-Control-Allow-Origin" not in asked
    assert "Access-Control-Allow-Origin" not in answered


@pytest.mark.parametrize("path", ["/admin/login/", "/healthz", "/static/config/admin.css"])
def test_no_origin_may_read_what_is_not_the_api(allowed, path):
    assert "Access-Control-Allow-Origin" not in Client().get(path, headers={"Origin": APP})
    assert "Access-Control-Allow-Origin" not in Client().options(path, headers=PREFLIGHT)


def test_without_the_setting_nothing_is_allowed_and_nothing_is_added():
    answer = Client().options("/api/v1/plans", headers=PREFLIGHT)

    assert answer.status_code == 405
    assert "Access-Control-Allow-Origin" not in answer
    assert "origin" not in names(answer.get("Vary", ""))
    middleware = RoadHandler()._exception_middleware[0].__self__
    assert isinstance(middleware, RequestMiddleware)
    assert "Cors" not in repr(middleware.get_response)


def raw(headers):
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]


async def test_the_road_answers_preflights_and_marks_its_errors(allowed, road):
    server = road()
    asked = await call(server, "/v1/chat/completions", method="OPTIONS", headers=raw(PREFLIGHT))
    refused = await call(server, "/v1/chat/completions", method="POST", headers=raw({"Origin": APP}))
    missing = await call(server, "/v1/nothing", headers=raw({"Origin": APP}))

    assert (asked.status_code, refused.status_code, missing.status_code) == (200, 401, 404)
    assert "x-stainless-lang" in asked.headers["Access-Control-Allow-Headers"]
    for answer in (asked, refused, missing):
        assert answer.headers["Access-Control-Allow-Origin"] == APP
        assert "X-Request-ID" in answer.headers


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/v1/users"])
async def test_what_is_refused_before_django_can_be_read(allowed, road, settings, path):
    settings.MAX_BODY_BYTES = 10
    large = await call(road(), path, method="POST", headers=raw({"Origin": APP, "Content-Length": "11"}))
    garbled = await call(road(), path, method="POST", query=b"\xff", headers=raw({"Origin": APP}))
    stranger = await call(road(), path, method="POST", query=b"\xff", headers=raw({"Origin": "https://evil.example"}))

    assert (large.status_code, garbled.status_code, stranger.status_code) == (413, 400, 400)
    assert large.headers["Access-Control-Allow-Origin"] == garbled.headers["Access-Control-Allow-Origin"] == APP
    assert large.headers["Connection"] == "close"
    assert "Access-Control-Allow-Origin" not in stranger.headers


async def test_the_road_without_the_setting_allows_nothing(road):
    asked = await call(road(), "/v1/chat/completions", method="OPTIONS", headers=raw(PREFLIGHT))

    assert asked.status_code == 405
    assert "Access-Control-Allow-Origin" not in asked.headers


# The setting ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("", []),
        ("https://app.example.com", ["https://app.example.com"]),
        ("https://App.Example.com, http://localhost:3000", ["https://app.example.com", "http://localhost:3000"]),
        ("https://a.example:443,http://b.example:80", ["https://a.example", "http://b.example"]),
        ("http://[::1]:3000", ["http://[::1]:3000"]),
    ],
)
def test_origins_are_kept_as_browsers_write_them(monkeypatch, given, expected):
    monkeypatch.setenv("CORS_ALLOWED_ORIGINS", given)

    assert env_origins("CORS_ALLOWED_ORIGINS") == expected


@pytest.mark.parametrize(
    "given",
    [
        *("*", "null", "app.example.com", "https://", "https://*.example.com", "https://app.example.com/"),
        *("https://app.example.com/path", "https://me@app.example.com", "ftp://app.example.com", "https://a b"),
        *("https://app.example.com:0", "https://app.example.com:port", "https://öl.example", "https://a..example"),
    ],
)
def test_a_senseless_origin_stops_the_start_with_a_sentence(monkeypatch, given):
    monkeypatch.setenv("CORS_ALLOWED_ORIGINS", f"https://fine.example,{given}")

    with pytest.raises(ImproperlyConfigured, match="CORS_ALLOWED_ORIGINS must hold origins such as"):
        env_origins("CORS_ALLOWED_ORIGINS")
