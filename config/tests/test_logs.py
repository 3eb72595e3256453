"""Logs are one JSON object a line, with the request's id and without secrets."""

import io
import json
import logging

import pytest
import structlog
from django.db import connection
from structlog.stdlib import ProcessorFormatter

from accounts.tests.credentials import access_token, api_key
from accounts.tests.factories import PASSWORD
from config.logs import mask

KEY = "msk_0123456789ab_" + "S3cr3t" * 7
LINK = "shr_0123456789ab_" + "S3cr3t" * 7
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJ1c2VyX2lkIjoiMSJ9.c2lnbmF0dXJlLXRoYXQtaXMtc2VjcmV0"


@pytest.fixture
def lines():
    """What has been logged so far, as the console would show it."""
    loggers = [logging.getLogger(), logging.getLogger("django"), logging.getLogger("django.request")]
    console = next(handler for handler in loggers[1].handlers if isinstance(handler.formatter, ProcessorFormatter))
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(console.formatter)
    for logger in loggers:
        logger.addHandler(handler)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    for logger in loggers:
        logger.removeHandler(handler)


@pytest.fixture
def log():
    return structlog.get_logger("mainstay.test")


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        (f"key {KEY} came", "key msk_0123… came"),
        (f"/api/v1/prompts/shared/{LINK}", "/api/v1/prompts/shared/shr_0123…"),
        (f"token {JWT}!", "token eyJ…!"),
        ("sk-proj-abcdefghijklmnop", "sk-…"),
        ("sk_live_abcdefghijklmnop", "sk_live_…"),
        ("whsec_abcdefghijklmnop", "whsec_…"),
        ("Authorization: Bearer abcdefghijklmnop", "Authorization: Bearer …"),
        ("authorization: basic YWxpY2U6cGFzc3dvcmQ=", "authorization: basic …"),
        ("nothing to hide", "nothing to hide"),
        ("a bearer of news", "a bearer of news"),
        ("msk_ is how keys begin", "msk_ is how keys begin"),
    ],
)
def test_what_looks_like_a_credential_is_cut_down_to_its_kind(text, masked):
    assert mask(text) == masked


@pytest.mark.parametrize(
    "fields",
    [
        {"password": "hunter2"},
        {"Authorization": "hunter2"},
        {"api_key": "hunter2", "token": "hunter2", "cookie": "hunter2", "secret": "hunter2"},
        {"headers": {"X-API-Key": "hunter2", "authorization": "hunter2"}},
        {"body": [{"user": {"password": "hunter2"}}]},
        {"x-api-key": b"hunter2"},
    ],
)
def test_fields_with_telling_names_are_masked_however_deep(lines, log, fields):
    log.info("something", **fields)

    (line,) = lines()
    assert line["event"] == "something"
    assert "hunter2" not in json.dumps(line)
    assert "…" in json.dumps(line, ensure_ascii=False)


@pytest.mark.parametrize("secret", [KEY, JWT])
def test_credentials_are_masked_wherever_they_stand(lines, log, secret):
    log.info(f"in the event {secret}", text=f"in a field {secret}", inner={"list": [f"deep {secret}"]})
    logging.getLogger("library").warning("in an argument %s", secret)
    try:
        raise ValueError(f"in an exception {secret}")
    except ValueError:
        log.exception("failed")
        logging.getLogger("library").exception("failed")

    found = lines()
    assert len(found) == 4
    assert secret[16:] not in json.dumps(found)
    assert "ValueError" in found[2]["exception"]
    assert "ValueError" in found[3]["exception"]


def test_a_line_says_when_who_and_how_bad(lines, log):
    log.warning("something", amount=3, what={"a": [1]})

    (line,) = lines()
    assert (line["event"], line["level"], line["logger"]) == ("something", "warning", "mainstay.test")
    assert (line["amount"], line["what"]) == (3, {"a": [1]})
    assert line["timestamp"].endswith("Z")


def test_a_request_is_one_line(lines, api, alice):
    answer = api(alice).get("/api/v1/users/me?token=hunter2", headers={"X-Request-ID": "the-id"})

    assert answer.status_code == 200
    (line,) = lines()
    assert line.pop("ms") >= 0
    assert line.pop("timestamp")
    assert line == {
        "event": "request",
        "level": "info",
        "logger": "mainstay.request",
        "request_id": "the-id",
        "method": "GET",
        "path": "/api/v1/users/me",
        "status": 200,
    }


def test_no_credential_reaches_the_log(lines, api, alice):
    key, token = api_key(alice), access_token(alice)
    for headers in ({"Authorization": f"Bearer {key}"}, {"X-API-Key": key}, {"Authorization": f"Bearer {token}"}):
        assert api().get("/api/v1/users/me", headers=headers).status_code == 200
        assert api().get(f"/api/v1/{key}", headers=headers).status_code == 404
    api().post("/api/v1/auth/token", {"email": alice.email, "password": PASSWORD})
    api().post("/api/v1/auth/token", {"email": alice.email, "password": "hunter2hunter2"})

    text = json.dumps(lines())
    assert len(lines()) == 8
    for secret in (key.rpartition("_")[2], token.rpartition(".")[2], PASSWORD, "hunter2"):
        assert secret not in text


def test_a_fault_is_logged_with_its_traceback_and_the_requests_id(lines, api, alice):
    def fail(*_arguments):
        raise RuntimeError

    client = api(alice, raise_request_exception=False)
    with connection.execute_wrapper(fail):
        answer = client.get("/api/v1/users/me", headers={"X-Request-ID": "the-id"})

    assert answer.status_code == 500
    fault, request = lines()
    assert (fault["level"], fault["request_id"]) == ("error", "the-id")
    assert "Traceback" in fault["exception"]
    assert (request["event"], request["status"]) == ("request", 500)


def test_the_id_of_one_request_does_not_stay_for_the_next_line(lines, log, api, db):
    api().get("/healthz", headers={"X-Request-ID": "the-id"})
    log.info("later")

    assert "request_id" not in lines()[-1]
