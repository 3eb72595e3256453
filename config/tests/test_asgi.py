"""The web process: when it refuses to serve, and what it answers before Django has its turn."""

import asyncio
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field

import pytest
from django.conf import settings as django_settings
from django.db.migrations.recorder import MigrationRecorder

from accounts.snapshots import redis_client
from quotas import rates, used_tokens
from quotas.rates import Subject
from quotas.windows import Rate
from tests.shape import error_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def asgi(db):
    """Importing it asks the database whether it may serve."""
    from config import asgi

    return asgi


@dataclass
class Answer:
    status_code: int = 0
    headers: dict = field(default_factory=dict)
    content: bytes = b""

    def json(self):
        return json.loads(self.content)


async def call(asgi, path="/healthz", *, method="GET", query=b"", headers=(), body=(b"",)):
    """Send a request as a server would, with the body in pieces; None stands for a caller who leaves."""
    answer, pieces = Answer(), list(body)

    async def receive():
        if not pieces:
            await asyncio.Event().wait()
        piece = pieces.pop(0)
        if piece is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    async def send(message):
        if message["type"] == "http.response.start":
            assert not answer.status_code
            answer.status_code = message["status"]
            # Django's own test clients read header names in any case.
            answer.headers = {
                name.decode().title().replace("Id", "ID"): value.decode() for name, value in message["headers"]
            }
        else:
            answer.content += message.get("body", b"")

    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http"}
    scope |= {"path": path, "raw_path": path.encode(), "root_path": "", "query_string": query}
    scope |= {"headers": [(b"host", b"testserver"), *headers], "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80)}
    await asgi.application(scope, receive, send)
    return answer


BOTH = pytest.mark.parametrize("path", ["/api/v1/users", "/v1/chat/completions"])


async def test_it_serves_files(asgi):
    answer = await call(asgi, "/static/config/admin.css")

    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/css")
    assert b"{" in answer.content


async def test_it_serves(asgi):
    answer = await call(asgi)

    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


@BOTH
async def test_a_body_that_says_it_is_too_large_is_not_even_read(asgi, settings, path):
    settings.MAX_BODY_BYTES = 100

    answer = await call(asgi, path, method="POST", headers=[(b"content-length", b"101")], body=[])

    assert error_of(answer, 413)["code"] == "request_too_large"


@BOTH
async def test_a_body_that_turns_out_to_be_too_large_is_cut_off(asgi, settings, path):
    settings.MAX_BODY_BYTES = 100

    answer = await call(asgi, path, method="POST", body=[b"x" * 60] * 1000)

    assert error_of(answer, 413)["code"] == "request_too_large"


async def test_a_body_in_pieces_of_undeclared_length_is_read(asgi):
    json_type = [(b"content-type", b"application/json")]

    answer = await call(
        asgi, "/api/v1/users", method="POST", headers=json_type, body=[b"{", b'"email":', b' "x"', b"}"]
    )
    assert error_of(answer, 400)["param"] == "email"
    assert error_of(answer)["code"] == "invalid"

    answer = await call(asgi, "/api/v1/users", method="POST", headers=json_type, body=[b"{"] * 9)
    assert error_of(answer, 400)["code"] == "invalid_json"


@BOTH
async def test_a_caller_who_leaves_in_the_middle_of_the_body_is_not_answered(asgi, path):
    answer = await call(asgi, path, method="POST", body=[b"{", None])

    assert answer == Answer()


@pytest.mark.parametrize("path", ["/api/v1/plans", "/v1/models", "/healthz"])
async def test_a_query_that_is_not_utf8_is_refused(asgi, path):
    answer = await call(asgi, path, query=b"limit=\xff\xfe")

    assert error_of(answer, 400)["code"] == "bad_request"


@pytest.mark.parametrize("path", ["/v1/nothing", "/nothing", "/v1/\0", "/\0"])
async def test_an_unknown_address_is_not_found(asgi, path):
    assert error_of(await call(asgi, path), 404)["code"] == "not_found"


@pytest.mark.parametrize(("path", "method"), [("/v1/models", "POST"), ("/v1/chat/completions", "GET"), ("/", "POST")])
async def test_a_method_that_an_address_does_not_take(asgi, path, method):
    assert error_of(await call(asgi, path, method=method), 405)["code"] == "method_not_allowed"


async def test_nobody_on_the_road(asgi):
    assert error_of(await call(asgi, "/v1/models"), 401)["code"] == "missing_credentials"


async def test_it_starts_and_ends_when_the_server_does(asgi):
    asked, said = ["lifespan.startup", "lifespan.shutdown"], []

    async def receive():
        return {"type": asked.pop(0)}

    async def send(message):
        said.append(message["type"])

    subjects = (Subject("rate:test", "address", None, (Rate("tokens", 60_000, 9),)),)
    rates.decide(subjects)
    redis_client().delete("rate:test")
    used_tokens.note(subjects, 5)
    await asgi.application({"type": "lifespan"}, receive, send)

    assert said == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert redis_client().exists("rate:test")


# Refusing to serve -----------------------------------------------------------------------------------------------


def test_it_may_serve_when_all_is_well(asgi):
    assert asgi.refusal_to_serve() is None


@pytest.mark.parametrize("name", ["SECRET_KEY", "JWT_SECRET_KEY"])
def test_it_does_not_serve_with_a_secret_that_everybody_knows(asgi, settings, name):
    setattr(settings, name, django_settings.INSECURE_SECRET)

    reason = asgi.refusal_to_serve()
    assert name in reason
    assert django_settings.INSECURE_SECRET not in reason

    settings.DEBUG = True
    assert asgi.refusal_to_serve() is None


def test_it_does_not_serve_without_its_migrations(asgi):
    MigrationRecorder.Migration.objects.filter(app="quotas").delete()

    assert "manage.py migrate" in asgi.refusal_to_serve()


def test_it_does_not_serve_when_it_could_not_read_what_is_encrypted(asgi, settings):
    settings.FIELD_ENCRYPTION_KEYS = ["short"]

    assert "FIELD_ENCRYPTION_KEYS" in asgi.refusal_to_serve()


def test_the_process_ends_with_one_sentence(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name not in {"SECRET_KEY", "JWT_SECRET_KEY"}}
    environment |= {"MAINSTAY_DATA_DIR": str(tmp_path), "DJANGO_DEBUG": "false"}

    process = subprocess.run(
        [sys.executable, "-c", "import config.asgi"], env=environment, capture_output=True, text=True, check=False
    )

    assert process.returncode == 3
    assert process.stderr.splitlines() == [
        "mainstay: Set SECRET_KEY, JWT_SECRET_KEY: outside of debug mode the default values are refused."
    ]
