"""Runs of the playground on a real server: metered like any call, as the operator, and never left open."""

import time
from contextlib import contextmanager

import httpx
import orjson
import pytest
from django.contrib.auth.models import Group
from django.middleware.csrf import _get_new_csrf_string
from django.test import Client
from django.urls import reverse

from accounts.models import AuditEvent
from accounts.tests.factories import UserFactory
from inference.models import Request
from prompts import usage
from prompts.models import PromptUsage
from prompts.tests.factories import a_template
from quotas.models import Quota
from quotas.tests.factories import QuotaFactory
from tests.web import WebServer

RUN = reverse("admin:prompts_prompttemplate_playground_run")
ACCEPT = "text/event-stream, application/json"


@pytest.fixture
def template(web, alice):
    return a_template(alice, "Greet {{ who }}.", name="greeting")


def operator(**quotas):
    """Of the role, with nothing but their own quotas."""
    user = UserFactory(is_staff=True)
    user.groups.add(Group.objects.get(name="operator"))
    QuotaFactory(user=user, unit="requests", limit=quotas.get("requests", 100))
    QuotaFactory(user=user, unit="tokens", limit=quotas.get("tokens", 100_000))
    return user


@contextmanager
def browser(web: WebServer, user=None, *, has_token=True):
    """What the page's script does: the session's cookie, the token, and an answer that is no page."""
    token = _get_new_csrf_string()
    headers = {"Accept": ACCEPT} | ({"X-CSRFToken": token} if has_token else {})
    with httpx.Client(base_url=web.url, headers=headers, cookies={"csrftoken": token}, timeout=20) as client:
        if user is not None:
            session = Client()
            session.force_login(user)
            client.cookies.update({name: cookie.value for name, cookie in session.cookies.items()})
        yield client


def fields(template, /, **changes):
    asked = {"template": str(template.pk), "model_a": "instant", "variable-who": "Ada"} | changes
    return {name: value for name, value in asked.items() if value is not None}


def held(user):
    return {quota.unit: (quota.current_usage, quota.held) for quota in Quota.objects.filter(user=user)}


def test_a_run_is_a_metered_call_of_the_operator_and_knows_its_version(web, template):
    user = operator()

    with browser(web, user) as client:
        asked = fields(template, model_a="echo", temperature="0.5", max_tokens="50", side="a")
        answer = client.post(RUN, data=asked)

    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/event-stream"
    assert "x-ratelimit-remaining-requests" in answer.headers
    events = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    assert events[-1] == "[DONE]"
    sent = orjson.loads(orjson.loads(events[0])["choices"][0]["delta"]["content"])
    assert sent["messages"] == [{"role": "user", "content": "Greet Ada."}]
    assert (sent["temperature"], sent["max_tokens"], sent["stream"]) == (0.5, 50, True)
    request = Request.objects.get()
    assert str(request.pk) == answer.headers["X-Inference-Request"]
    assert (request.user_id, request.status, request.usage) == (user.pk, "success", "reported")
    assert request.prompt_version_id == template.versions.get().pk
    assert request.request_data["prompt"] == {"name": "greeting", "version": 1, "label": "production"}
    assert held(user) == {"requests": (1, 0), "tokens": (70, 0)}
    event = AuditEvent.objects.get(action="prompt_template.run")
    assert (event.actor_id, event.target_id) == (user.pk, str(template.pk))
    assert event.metadata == {"number": 1, "model": "echo", "request": str(request.pk)}
    usage.roll_up()
    assert PromptUsage.objects.get().requests == 1


@pytest.mark.parametrize(
    ("who", "status"), [("nobody", 302), ("user", 302), ("support", 403), ("analyst", 403), ("no token", 403)]
)
def test_others_run_nothing(web, template, who, status):
    user = None if who == "nobody" else operator() if who == "no token" else UserFactory(is_staff=who != "user")
    if who in {"support", "analyst"}:
        user.groups.add(Group.objects.get(name=who))

    with browser(web, user, has_token=who != "no token") as client:
        answer = client.post(RUN, data=fields(template))

    assert answer.status_code == status
    if status == 302:
        assert answer.headers["Location"].startswith("/admin/login/")
    elif who != "no token":
        assert answer.json()["error"]["type"] == "permission_error"
    assert not Request.objects.exists()


@pytest.mark.parametrize(
    ("changes", "status", "code", "param"),
    [
        ({"variable-who": None}, 400, "missing_variable", "variables.who"),
        ({"variable-who": "A\0da"}, 400, "nul_character", "variables.who"),
        ({"target_a": "staging"}, 404, "label_not_found", "label"),
        ({"target_a": "7"}, 404, "version_not_found", "version"),
        ({"template": "nothing"}, 404, "template_not_found", "template"),
        ({"model_a": "no\0ne"}, 404, "model_not_found", "model"),
        ({"temperature": "9"}, 400, "invalid_value", "temperature"),
        ({"max_tokens": "0"}, 400, "invalid_value", "max_tokens"),
        ({"max_tokens": "99999"}, 429, "insufficient_quota", None),
        ({"model_a": "error-500"}, 502, "upstream_error", None),
        ({"model_a": "refuse-400"}, 400, "invalid_value", "temperature"),
    ],
)
def test_what_is_refused_or_fails_says_so_in_the_one_shape_and_costs_nothing(
    web, template, changes, status, code, param
):
    user = operator(tokens=5_000)

    with browser(web, user) as client:
        answer = client.post(RUN, data=fields(template, **changes))

    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code), error
    assert error["message"]
    assert param is None or error["param"] == param
    assert held(user) == {"requests": (0, 0), "tokens": (0, 0)}
    assert not Request.objects.filter(status="running").exists()


def test_a_stream_that_breaks_says_so_in_place(web, template):
    with browser(web, operator()) as client:
        answer = client.post(RUN, data=fields(template, model_a="die-midstream"))

    assert answer.status_code == 200
    assert orjson.loads(answer.text.split("\n\n")[-2].removeprefix("data: "))["error"]["code"] == "upstream_error"
    assert Request.objects.get().status == "error"


def test_who_cancels_pays_for_what_came_and_holds_nothing(web, template):
    user = operator()

    with browser(web, user) as client, client.stream("POST", RUN, data=fields(template, model_a="hang-midstream")) as s:
        # Kept: the connection ends with it.
        chunks = s.iter_bytes()
        next(chunks)
        assert held(user)["tokens"][1] > 0

    deadline = time.monotonic() + 5
    while Request.objects.get().status == "running" and time.monotonic() < deadline:
        time.sleep(0.02)
    request = Request.objects.get()
    assert (request.status, request.error_code) == ("cancelled", "client_disconnected")
    assert request.output_tokens > 0
    assert held(user) == {"requests": (1, 0), "tokens": (request.input_tokens + request.output_tokens, 0)}
