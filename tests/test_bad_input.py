"""Bodies, queries and headers that nobody thought of: answered with success or a clear refusal, never with a fault."""

import json

import pytest
from django.db import transaction
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from accounts.caller import Caller
from accounts.exceptions import DomainError
from accounts.models import ApiKey
from accounts.tests.credentials import api_key
from conversations import services as conversations
from conversations.tests.factories import a_conversation
from inference import services as inference
from inference import views as inference_views
from inference.models import Model, Provider, Request
from inference.payloads import parse_object
from prompts.models import Collection, SavedPrompt
from prompts.tests.enhance import improved
from prompts.tests.factories import a_template
from quotas.meters import Meter, Period, Resource, Unit
from quotas.models import Quota, Reservation
from tests.shape import error_of

fuzz = settings(
    max_examples=100,
    # The same examples each time: the tests also check that enough of them were let through.
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)

texts = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["", " ", "\0", "true", "-1", "1e5", "x" * 5000, "a@b.example", "2026-01-01T00:00Z", "held"]),
    st.sampled_from(["\N{RIGHT-TO-LEFT OVERRIDE}", "İ@İ.com", "\N{PILE OF POO}" * 300, "9999-12-31T23:59:59-23:59"]),
)
numbers = st.one_of(
    st.integers(-3, 3),
    st.sampled_from([2**31, 2**53, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**40]),
    st.floats(allow_nan=False, allow_infinity=False),
)
scalars = st.one_of(st.none(), st.booleans(), numbers, texts)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=6,
)

FIELDS = [
    *("email", "password", "full_name", "username", "preferred_model", "metadata", "name", "scopes", "expires_at"),
    *("refresh", "amounts", "seconds", "title", "content", "is_favourite", "model_override"),
    *("is_active", "id", "user", "token", "revoke_api_keys"),
    *("role", "parent", "head", "client_message_id", "tool_call_id", "channel"),
    *("variables", "version", "expected", "label", "tags", "protected_labels", "commit_message"),
]
METERS = [str(Meter(resource, unit)) for resource in Resource.values for unit in Unit.values]
amounts = st.dictionaries(st.one_of(st.sampled_from(METERS), texts), st.one_of(numbers, values), max_size=3)
budgets = st.fixed_dictionaries(
    {
        "resource_type": st.one_of(st.sampled_from(Resource.values), values),
        "unit": st.one_of(st.sampled_from(Unit.values), values),
        "period": st.one_of(st.sampled_from(Period.values), values),
        "limit": values,
    }
)
bodies = st.one_of(
    st.lists(budgets, max_size=3),
    st.dictionaries(st.one_of(st.sampled_from(FIELDS), texts), values, max_size=6),
    st.fixed_dictionaries({"amounts": amounts}, optional={"seconds": values}),
    values,
)


def assert_no_fault(answer):
    if answer.status_code >= 400:
        error_of(answer)
        assert answer.status_code < 500


FOLDER_WRITES = (("PATCH", ""), ("POST", "/move"), ("POST", "/duplicate"), ("POST", "/links"))


@pytest.fixture
def addresses(alice):
    reservation = Reservation.objects.create(
        user=alice, amounts={}, holds={}, by_client=True, expires_at="2100-01-01T00Z"
    )
    prompt = SavedPrompt.objects.create(user=alice, title="x", content="y")
    folder = Collection.objects.create(user=alice, name="x")
    template = a_template(alice)
    conversation = a_conversation(alice, "Hello")
    api_key(alice)
    key = ApiKey.objects.get()
    return [
        *(("POST", "/api/v1/users"), ("POST", "/api/v1/auth/token"), ("POST", "/api/v1/auth/token/refresh")),
        *(("POST", "/api/v1/auth/verify-email"), ("POST", "/api/v1/auth/password-reset")),
        ("POST", "/api/v1/auth/password-reset/confirm"),
        *(("PUT", "/api/v1/users/me"), ("PATCH", "/api/v1/users/me"), ("POST", "/api/v1/users/me/api-keys")),
        ("PUT", f"/api/v1/users/me/api-keys/{key.pk}/budgets"),
        *(("POST", "/api/v1/quotas/check"), ("POST", "/api/v1/quotas/usage"), ("POST", "/api/v1/quotas/reservations")),
        ("POST", f"/api/v1/quotas/reservations/{reservation.pk}/confirm"),
        ("POST", f"/api/v1/quotas/reservations/{reservation.pk}/release"),
        *(("POST", "/api/v1/prompts/saved"), ("PATCH", f"/api/v1/prompts/saved/{prompt.pk}")),
        *(("POST", "/api/v1/prompts/saved/import?partial=true"), ("POST", "/api/v1/prompts/collections")),
        *(("POST", f"/api/v1/prompts/saved/{prompt.pk}/{what}") for what in ("move", "duplicate", "links")),
        *((method, f"/api/v1/prompts/collections/{folder.pk}{what}") for method, what in FOLDER_WRITES),
        *(("POST", "/api/v1/prompts/templates"), ("PATCH", f"/api/v1/prompts/templates/{template.name}")),
        ("POST", f"/api/v1/prompts/templates/{template.name}/versions"),
        ("POST", f"/api/v1/prompts/templates/{template.name}/render"),
        ("PUT", f"/api/v1/prompts/templates/{template.name}/labels/staging"),
        ("POST", f"/api/v1/prompts/history/{improved(alice).pk}/feedback"),
        *(("POST", "/api/v1/conversations"), ("PATCH", f"/api/v1/conversations/{conversation.pk}")),
        ("POST", "/api/v1/conversations/import"),
        ("POST", f"/api/v1/conversations/{conversation.pk}/messages"),
        ("PATCH", f"/api/v1/conversations/{conversation.pk}/messages/{conversation.head_id}"),
    ]


@pytest.fixture
def unhurried(settings):
    settings.RATELIMIT_REGISTRATION = settings.RATELIMIT_TOKEN = settings.RATELIMIT_RESET = "1000000/s"


def test_no_json_is_a_fault(api, alice, addresses, unhurried):
    client = api(alice, raise_request_exception=True)

    @fuzz
    @given(target=st.sampled_from(addresses), body=bodies)
    def send(target, body):
        assert_no_fault(client.generic(*target, client._encode_json(body, "application/json")))

    send()


def test_no_bytes_are_a_fault(api, alice, addresses, unhurried):
    client = api(alice, raise_request_exception=True)

    @fuzz
    @given(
        body=st.binary(max_size=60), content_type=st.one_of(st.just("application/json"), st.text("a/;=*+ ", max_size=9))
    )
    def send(body, content_type):
        assert_no_fault(client.generic("PATCH", "/api/v1/users/me", body, content_type))

    send()


HEADERS = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n"), max_size=40)


def test_no_credential_is_a_fault(api, alice):
    known = api_key(alice)
    client = api(raise_request_exception=True)

    @fuzz
    @given(
        authorization=st.one_of(HEADERS, HEADERS.map("Bearer {}".format), HEADERS.map(f"Bearer {known}{{}}".format)),
        key=st.one_of(st.just(""), HEADERS, HEADERS.map("msk_{}".format), HEADERS.map("msk_0_{}".format)),
        request_id=HEADERS,
    )
    def knock(authorization, key, request_id):
        headers = {"Authorization": authorization, "X-API-Key": key, "X-Request-ID": request_id}
        answer = client.get("/api/v1/users/me", headers=headers)
        if answer.status_code != 200:
            error_of(answer, 401)
        else:
            assert authorization.removeprefix("Bearer").strip() == known

    knock()


def test_no_query_is_a_fault(api, olga):
    client = api(olga, raise_request_exception=True)
    lists = [
        "/api/v1/requests",
        "/api/v1/prompts/saved",
        "/api/v1/quotas/reservations",
        "/api/v1/analytics/daily-stats",
    ]
    names = ["cursor", "limit", "format", "status", "model", "created_after", "day", "is_favourite", "request_type"]

    @fuzz
    @given(
        address=st.sampled_from(lists),
        query=st.dictionaries(st.one_of(st.sampled_from(names), texts), st.one_of(texts, numbers), max_size=4),
    )
    def ask(address, query):
        assert_no_fault(client.get(address, query))

    ask()


# The protocol's own envelope is right here: what is wrong with those, prompts/tests/test_mcp.py shows.
calls = st.fixed_dictionaries(
    {
        "jsonrpc": st.just("2.0"),
        "id": st.just(1),
        "method": st.sampled_from(["initialize", "prompts/list", "prompts/get", "completion/complete"]),
        "params": st.builds(
            lambda odd, who: {"name": "fine", "arguments": {"who": who}, "protocolVersion": "2025-11-25"} | odd,
            st.dictionaries(
                st.sampled_from(["name", "arguments", "cursor", "ref", "argument", "_meta"]), values, max_size=2
            ),
            texts,
        ),
    }
)


def test_no_message_of_mcp_is_a_fault(api, alice):
    a_template(alice, name="fine")
    client = api(alice, raise_request_exception=True)
    results = 0

    @settings(fuzz, max_examples=50)
    @given(body=calls, version=st.one_of(st.sampled_from(["2025-06-18", "2025-11-25"]), HEADERS))
    def send(body, version):
        nonlocal results
        headers = {"MCP-Protocol-Version": version}
        answer = client.generic("POST", "/mcp", client._encode_json(body, "application/json"), headers=headers)
        assert answer.status_code < 500
        results += b'"result"' in answer.content

    send()
    assert results > 9


# Calls to models: what their views do before they go upstream -------------------------------------------------------

parts = st.lists(
    st.one_of(
        values, st.fixed_dictionaries({"type": st.sampled_from(["text", "image_url"])}, optional={"text": values})
    ),
    max_size=3,
)
messages = st.lists(
    st.one_of(
        values,
        st.fixed_dictionaries(
            {"role": st.one_of(st.sampled_from(["user", "assistant", "system", "tool"]), values)},
            optional={"content": st.one_of(values, parts), "tool_calls": values, "name": values},
        ),
    ),
    max_size=3,
)
chats = st.fixed_dictionaries(
    {"model": st.one_of(st.just("known"), values), "messages": st.one_of(messages, values)},
    optional=dict.fromkeys(
        [
            "stream",
            "stream_options",
            "max_tokens",
            "max_completion_tokens",
            "n",
            "tools",
            "functions",
            "response_format",
        ],
        values,
    )
    | {"metadata": st.one_of(values, st.fixed_dictionaries({"conversation_id": values}))},
)
embeddings = st.fixed_dictionaries(
    {"model": st.just("known-vectors"), "input": st.one_of(values, st.lists(values, max_size=4))},
    optional={"encoding_format": values, "dimensions": values},
)


@pytest.fixture
def known(db):
    provider = Provider.objects.create(name="p", base_url="http://127.0.0.1:9/v1")
    Model.objects.create(name="known", upstream_name="m", provider=provider)
    Model.objects.create(name="known-vectors", upstream_name="m", provider=provider, kind="embedding")


def open_chat(caller, payload):
    return conversations.open_chat(caller=caller, payload=payload).call


def open_embeddings(caller, payload):
    inference_views.check_embedding_input(payload)
    return inference.open_call(caller=caller, kind=Resource.EMBEDDING, payload=payload)


@pytest.mark.parametrize(("open_call", "payloads"), [(open_chat, chats), (open_embeddings, embeddings)])
def test_no_payload_is_a_fault(alice, known, open_call, payloads):
    caller = Caller(user_id=alice.pk, email=alice.email)
    opened = refused = 0

    @fuzz
    @given(payload=payloads)
    def call(payload):
        nonlocal opened, refused
        before = Reservation.objects.count(), Request.objects.count()
        try:
            with transaction.atomic():
                open_call(caller, parse_object(json.dumps(payload).encode()))
        except DomainError:
            refused += 1
            assert (Reservation.objects.count(), Request.objects.count()) == before
        else:
            opened += 1

    call()
    assert opened
    assert refused
    held = sum(amount for row in Reservation.objects.all() for amount in row.holds.values())
    assert held == sum(Quota.objects.filter(user=alice).values_list("held", flat=True))
