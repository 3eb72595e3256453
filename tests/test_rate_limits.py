"""Rate limits as callers meet them, on both surfaces."""

import openai
import pytest
import time_machine
from django.test import RequestFactory
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.snapshots import redis_client
from accounts.tests.credentials import api_key
from config.embedded.process import wait_until
from inference.models import Request
from quotas.exceptions import RateLimitExceeded
from quotas.rates import Decision
from quotas.tests.factories import PlanFactory, SubscriptionFactory
from quotas.throttling import duration, rate_headers
from tests.shape import error_of

NOON = "2030-01-01T12:00Z"
HELLO = [{"role": "user", "content": "Hello"}]
ME = "/api/v1/users/me"


def limit(user, **sections):
    SubscriptionFactory(user=user, plan=PlanFactory(rate_limits=sections))


def headers_of(answer):
    return {
        name.lower().removeprefix("x-ratelimit-"): value
        for name, value in answer.headers.items()
        if name.lower().startswith("x-ratelimit")
    }


@pytest.mark.django_db
@time_machine.travel(NOON, tick=False)
def test_the_api_lets_in_what_the_plan_allows(api, alice):
    limit(alice, default={"requests": {"minute": 2, "day": 50}})
    client = api(alice)
    answer = client.get(ME)
    assert answer.status_code == 200
    assert headers_of(answer) == {"limit-requests": "2", "remaining-requests": "1", "reset-requests": "1m1s"}
    client.get(ME)

    answer = client.get(ME)

    error = error_of(answer, 429)
    assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
    assert error["message"] == "You may use 2 requests a minute. Try again in 61 seconds."
    assert answer["Retry-After"] == "61"
    assert headers_of(answer)["remaining-requests"] == "0"


@pytest.mark.django_db
def test_the_same_call_is_let_in_when_it_was_said_to_be(api, alice):
    limit(alice, default={"requests": {"minute": 3}})
    with time_machine.travel(NOON, tick=False) as clock:
        client = api(alice)
        for pause in (10, 20, 25):
            clock.shift(pause)
            assert client.get(ME).status_code == 200
        seconds = int(client.get(ME)["Retry-After"])
        clock.shift(seconds - 1)
        assert client.get(ME).status_code == 429
        clock.shift(1)
        assert client.get(ME).status_code == 200


@pytest.mark.django_db
@time_machine.travel(NOON, tick=False)
def test_what_is_refused_for_other_reasons_is_not_counted(api, alice):
    limit(alice, default={"requests": {"minute": 1}})
    key = api_key(alice, scopes=["prompts"])
    assert error_of(api(key).get(ME), 403)
    assert api(alice).get(ME).status_code == 200


@pytest.mark.django_db
@time_machine.travel(NOON, tick=False)
def test_without_credentials_the_address_is_limited(api, settings):
    settings.RATELIMIT_ANONYMOUS = "2/10m"
    assert [api().get("/api/v1/plans").status_code for _ in range(3)] == [200, 200, 429]
    assert api().get("/api/v1/plans", REMOTE_ADDR="10.0.0.9").status_code == 200
    error = error_of(api().get("/api/v1/plans"), 429)
    assert error["message"] == (
        "This address, without credentials, may use 2 requests in 600 seconds. Try again in 601 seconds."
    )


class Deliveries(APIView):
    scope = None
    authentication_classes = ()
    anonymous_rate = "RATELIMIT_WEBHOOK"

    def post(self, request):
        return Response()


@time_machine.travel(NOON, tick=False)
def test_a_view_may_name_another_rate_for_addresses(settings, api):
    settings.RATELIMIT_ANONYMOUS, settings.RATELIMIT_WEBHOOK = "1/m", "3/m"
    deliver = Deliveries.as_view()
    answers = [deliver(RequestFactory().post("/")) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[3]["Retry-After"] == "61"
    # They are counted by themselves.
    assert api().get("/api/v1/features").status_code == 401
    assert deliver(RequestFactory().post("/", REMOTE_ADDR="10.0.0.9")).status_code == 200


@pytest.mark.django_db
@time_machine.travel(NOON, tick=False)
def test_without_redis_the_limits_still_hold(api, alice, redis_away):
    limit(alice, default={"requests": {"minute": 2}})
    client = api(alice)
    assert [client.get(ME).status_code for _ in range(3)] == [200, 200, 429]
    assert api().get("/readyz").json()["rate_limits"] == {"decided_locally": 3}


# The OpenAI surface ----------------------------------------------------------------------------------------------


@pytest.fixture
def client(web, account):
    day = {"requests": {"day": 4}, "tokens": {"day": 250}}
    limit(account.user, default={"requests": {"day": 1000}}, inference=day)
    with openai.OpenAI(base_url=f"{web.url}/v1", api_key=account.key, max_retries=0) as client:
        yield client


def tokens_counted(user):
    """Whether the web process has told Redis what a call has used; the last number kept is of the tokens of a day."""
    kept = redis_client().get(f"rate:{user.pk}:inference")
    return bool(kept) and kept[-8:] != bytes(8)


def ask(client, **options):
    return client.chat.completions.with_raw_response.create(model="instant", messages=HELLO, **options)


def test_answers_and_streams_say_how_much_is_left(client, account):
    first = headers_of(ask(client))
    assert (first["limit-requests"], first["remaining-requests"]) == ("4", "3")
    assert (first["limit-tokens"], first["remaining-tokens"], first["reset-tokens"]) == ("250", "250", "0s")
    assert wait_until(lambda: tokens_counted(account.user), patience=5)

    stream = ask(client, stream=True)
    assert headers_of(stream)["remaining-requests"] == "2"
    # What the first call has used was counted after it was settled.
    assert headers_of(stream)["remaining-tokens"] == "180"
    list(stream.parse())


def test_calls_and_tokens_over_the_limit_are_refused_before_anything_is_held(client, account):
    for _ in range(4):
        ask(client)
    with pytest.raises(openai.RateLimitError) as refusal:
        ask(client)

    assert refusal.value.code == "rate_limit_exceeded"
    assert "a day" in str(refusal.value)
    answer = refusal.value.response
    assert int(answer.headers["Retry-After"]) > 1
    assert headers_of(answer)["remaining-requests"] == "0"
    assert Request.objects.count() == 4
    assert account.usage()["llm.requests"] == (4, 0)


def test_tokens_alone_stop_calls(web, account):
    limit(account.user, inference={"tokens": {"day": 60}})
    with openai.OpenAI(base_url=f"{web.url}/v1", api_key=account.key, max_retries=0) as client:
        ask(client)
        assert wait_until(lambda: tokens_counted(account.user), patience=5)
        with pytest.raises(openai.RateLimitError, match="60 tokens a day"):
            ask(client)


# Words -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [(0, "0s"), (1, "1s"), (1000, "1s"), (59_001, "1m0s"), (360_000, "6m0s"), (86_399_999, "24h0m0s")],
)
def test_durations(milliseconds, text):
    assert duration(milliseconds) == text


def test_who_is_not_limited_has_no_headers():
    assert rate_headers(Decision(admitted=True, counters=(), counts=())) == {}


def test_one_second_is_one_second():
    assert str(RateLimitExceeded(who="You", limit=1, unit="requests", window="a second", retry_after=1)).endswith(
        "in 1 second."
    )
