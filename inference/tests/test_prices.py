"""What a call costs: which price is valid, exactly until when, and that a call pays as it was opened."""

import math
from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest
import time_machine
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from accounts.caller import Caller
from accounts.tests.factories import UserFactory
from inference import services
from inference.models import MOST_PRICE, Model, Price, Provider, Request
from inference.replies import TokenUsage, reported_usage
from inference.routes import CACHE_SECONDS, Route, forget_routes, routes_for
from inference.services import Status, Usage
from quotas.meters import Resource
from quotas.tests.factories import QuotaFactory

Unit = Price.Unit
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
TICK = timedelta(microseconds=1)


@pytest.fixture
def model(db):
    return make_model()


def make_model(kind="llm", order=0):
    provider = Provider.objects.create(name=f"provider-{order}", base_url="http://127.0.0.1:9/v1")
    return Model.objects.create(
        name="m", kind=kind, provider=provider, upstream_name="m", fallback_order=order, max_output_tokens=100
    )


def price(model, unit, micro, valid_from=NOON - timedelta(days=1)):
    return Price.objects.create(model=model, unit=unit, price=micro, valid_from=valid_from)


def cost(amounts, at=NOON):
    return routes_for("m", "llm")[0].cost(amounts, at=at)


# Which price -----------------------------------------------------------------------------------------------------


def test_a_price_is_valid_from_its_instant_until_the_next_one(model):
    price(model, "seconds", 1_000_000, NOON - timedelta(days=1))
    price(model, "seconds", 2_000_000, NOON)
    price(model, "seconds", 0, NOON + timedelta(days=1))

    instants = [NOON - timedelta(days=1) - TICK, NOON - TICK, NOON, NOON + timedelta(days=1) - TICK]
    assert [cost({Unit.SECONDS: 3}, at) for at in instants] == [0, 3, 6, 6]
    assert cost({Unit.SECONDS: 3}, NOON + timedelta(days=1)) == 0
    assert cost({Unit.CHARACTERS: 3}) == 0


def test_two_prices_cannot_begin_at_one_instant(model):
    price(model, "seconds", 1, NOON)
    price(model, "characters", 1, NOON)

    with pytest.raises(IntegrityError, match="price_instant_unique"), transaction.atomic():
        price(model, "seconds", 2, NOON)


@pytest.mark.parametrize("micro", [-1, MOST_PRICE + 1])
def test_the_database_refuses_prices_that_cannot_be(model, micro):
    with pytest.raises(IntegrityError, match="price_in_range"):
        price(model, "seconds", micro)


def test_a_route_that_is_kept_takes_a_coming_price_at_its_instant_and_a_new_one_soon(model, monkeypatch):
    price(model, "requests", 1_000_000, NOON)
    price(model, "requests", 2_000_000, NOON + timedelta(seconds=1))
    clock = [100.0]
    monkeypatch.setattr("inference.routes.time.monotonic", lambda: clock[0])
    routes_for("m", "llm")
    with CaptureQueriesContext(connection) as asked:
        costs = [cost({Unit.REQUESTS: 1}, NOON + timedelta(milliseconds=wait)) for wait in (0, 999, 1000)]
    assert (costs, len(asked)) == ([1, 1, 2], 0)

    price(model, "requests", 3_000_000, NOON + timedelta(seconds=1, milliseconds=1))
    clock[0] += CACHE_SECONDS
    with CaptureQueriesContext(connection) as asked:
        assert cost({Unit.REQUESTS: 1}, NOON + timedelta(seconds=2)) == 3
    assert len(asked) == 2


# How much --------------------------------------------------------------------------------------------------------

amount = st.integers(0, 2**31)
priced = st.dictionaries(st.sampled_from(list(Unit)), st.integers(0, MOST_PRICE))
used = st.fixed_dictionaries({unit: amount for unit in Unit if unit != Unit.CACHED_INPUT_TOKENS})


@given(prices=priced, amounts=used, share=st.fractions(0, 1))
def test_a_cost_is_the_exact_sum_rounded_up_once(prices, amounts, share):
    cached = math.floor(amounts[Unit.INPUT_TOKENS] * share)
    route = route_with({unit: ((NOON, micro),) for unit, micro in prices.items()})

    exact = {**amounts, Unit.CACHED_INPUT_TOKENS: cached, Unit.INPUT_TOKENS: amounts[Unit.INPUT_TOKENS] - cached}
    if Unit.CACHED_INPUT_TOKENS not in prices:
        exact = amounts
    wanted = sum(Fraction(n * prices.get(unit, 0), 1_000_000) for unit, n in exact.items())
    found = route.cost({**amounts, Unit.CACHED_INPUT_TOKENS: cached}, at=NOON)
    assert type(found) is int
    assert found == math.ceil(wanted)


def route_with(prices):
    numbers = {"connect_timeout": 1, "read_timeout": 1, "context_window": None, "max_output_tokens": None}
    texts = dict.fromkeys(("name", "kind", "upstream_name", "provider", "base_url", "api_key"), "")
    return Route(**texts, **numbers, prices=prices)


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"prompt_tokens": 20, "completion_tokens": 5}, (20, 5, 0)),
        ({"prompt_tokens": 20, "prompt_tokens_details": {"cached_tokens": 8}}, (20, 0, 8)),
        ({"prompt_tokens": 20, "prompt_tokens_details": {"cached_tokens": 99}}, (20, 0, 20)),
        ({"prompt_tokens": 20, "prompt_tokens_details": {"cached_tokens": -1}}, (20, 0, 0)),
        ({"prompt_tokens": 20, "prompt_tokens_details": {"cached_tokens": "8"}}, (20, 0, 0)),
        ({"prompt_tokens": 20, "prompt_tokens_details": [8]}, (20, 0, 0)),
    ],
)
def test_cached_tokens_are_read_from_what_the_provider_reports(usage, tokens):
    assert reported_usage(usage) == TokenUsage(*tokens)


# Calls -----------------------------------------------------------------------------------------------------------


class Client:
    """A user with a quota for cost, and how this user calls."""

    def __init__(self, kind="llm"):
        self.kind = Resource(kind)
        self.user = UserFactory()
        self.quota = QuotaFactory(user=self.user, resource_type=kind, unit="cost", limit=10**12)
        self.caller = Caller(user_id=self.user.pk, email="", is_staff=False, is_superuser=False)

    def open(self, **options):
        payload = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
        return services.open_call(caller=self.caller, kind=self.kind, payload=payload, **options)

    def settle(self, call, usage=Usage.REPORTED, **outcome):
        call.outcome.status, call.outcome.usage = Status.SUCCESS, usage
        for name, value in outcome.items():
            setattr(call.outcome, name, value)
        services.settle(call)
        return Request.objects.get(pk=call.request_id)

    def charged(self):
        self.quota.refresh_from_db()
        return self.quota.current_usage, self.quota.held


@pytest.fixture
def client_of_m(db):
    return Client()


def test_a_call_pays_the_price_at_which_it_was_opened(model, client_of_m):
    price(model, "output_tokens", 1_000_000, NOON - timedelta(days=1))
    price(model, "output_tokens", 9_000_000, NOON + timedelta(seconds=1))
    with time_machine.travel(NOON, tick=False) as clock:
        call = client_of_m.open()
        assert client_of_m.charged() == (0, 100)
        price(model, "output_tokens", 5_000_000, NOON - timedelta(seconds=1))
        forget_routes()
        clock.shift(2)
        assert client_of_m.settle(call, output_tokens=7).cost == 7
        assert client_of_m.settle(client_of_m.open(), output_tokens=7).cost == 63
    assert client_of_m.charged() == (70, 0)


def test_a_fallback_takes_its_own_price_of_the_opening(model, client_of_m):
    price(model, "output_tokens", 1_000_000)
    second = make_model(order=1)
    price(second, "output_tokens", 2_000_000)
    with time_machine.travel(NOON, tick=False) as clock:
        call = client_of_m.open()
        price(second, "output_tokens", 8_000_000, NOON + timedelta(seconds=1))
        clock.shift(5)
        request = client_of_m.settle(call, output_tokens=7, route=call.routes[1])

    assert (request.cost, request.provider, client_of_m.charged()) == (14, "provider-1", (14, 0))


@pytest.mark.parametrize(("cached_price", "wanted"), [(None, 20), (0, 12), (500_000, 16)])
def test_cached_input_tokens_are_cheaper_where_they_have_a_price(model, client_of_m, cached_price, wanted):
    price(model, "input_tokens", 1_000_000)
    if cached_price is not None:
        price(model, "cached_input_tokens", cached_price)

    request = client_of_m.settle(client_of_m.open(), input_tokens=20, cached_input_tokens=8)

    assert (request.cost, request.input_tokens, request.cached_input_tokens) == (wanted, 20, 8)
    assert client_of_m.charged() == (wanted, 0)


def test_what_was_not_used_costs_nothing_although_requests_have_a_price(model, client_of_m):
    price(model, "requests", 10**10)
    assert client_of_m.settle(client_of_m.open()).cost == 10_000
    assert client_of_m.settle(client_of_m.open(), usage=Usage.NONE).cost == 0
    assert client_of_m.charged() == (10_000, 0)


@pytest.mark.parametrize(("kind", "unit"), [("stt", "seconds"), ("tts", "characters")])
def test_speech_is_metered_and_paid_by_what_the_edge_passes(db, kind, unit):
    price(make_model(kind), unit, 100_000_000)
    client = Client(kind)
    metered = QuotaFactory(user=client.user, resource_type=kind, unit=unit, limit=100)

    call = client.open(**{unit: 61})
    assert client.charged() == (0, 6100)
    request = client.settle(call)
    assert (getattr(request, unit), request.cost) == (61, 6100)
    corrected = client.settle(client.open(**{unit: 30}), **{unit: 20})
    assert (getattr(corrected, unit), corrected.cost) == (20, 2000)
    nothing = client.settle(client.open(**{unit: 10}), usage=Usage.NONE)
    assert (getattr(nothing, unit), nothing.cost) == (0, 0)

    metered.refresh_from_db()
    assert (metered.current_usage, metered.held, client.charged()) == (81, 0, (8100, 0))


def test_a_lost_call_is_charged_the_speech_that_was_sent_but_no_price(db):
    price(make_model("stt"), "seconds", 100_000_000)
    client = Client("stt")
    metered = QuotaFactory(user=client.user, resource_type="stt", unit="seconds", limit=100)
    call = client.open(seconds=61)
    with time_machine.travel(timezone.now() + timedelta(days=1), tick=False):
        assert services.sweep_abandoned() == 1

    metered.refresh_from_db()
    assert (metered.current_usage, metered.held, client.charged()) == (61, 0, (0, 0))
    assert Request.objects.get(pk=call.request_id).cost == 0


# History ---------------------------------------------------------------------------------------------------------


def test_what_has_begun_stays_and_nothing_is_put_before_it(model):
    old, future = price(model, "seconds", 1, NOON), price(model, "seconds", 2, NOON + timedelta(days=2))
    with time_machine.travel(NOON + timedelta(days=1), tick=False):
        old.full_clean()
        future.price = 3
        future.full_clean()
        Price(model=model, unit="seconds", price=4, valid_from=NOON + timedelta(hours=1)).full_clean()
        Price(model=model, unit="requests", price=4, valid_from=NOON - timedelta(days=9)).full_clean()
        future.valid_from = NOON - TICK
        for refused in (future, Price(model=model, unit="seconds", price=4, valid_from=NOON - TICK)):
            with pytest.raises(ValidationError, match="begin after that"):
                refused.full_clean()
        for name, value in (("price", 2), ("valid_from", NOON + timedelta(days=9)), ("unit", "requests")):
            edited = Price.objects.get(pk=old.pk)
            setattr(edited, name, value)
            with pytest.raises(ValidationError, match="stays as it is"):
                edited.full_clean()
