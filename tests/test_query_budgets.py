"""What each endpoint costs in SQL, warm, and that a longer list costs no more."""

import itertools

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts import tokens
from accounts.caller import Caller
from accounts.models import ApiKey, ChannelIdentity, Session
from accounts.tests.credentials import api_key
from analytics.models import DailyStat
from conversations.channels import channel
from conversations.models import Conversation
from conversations.tests.factories import said
from inference.models import Request
from prompts import sharing, techniques, templates
from prompts.models import Collection, PromptHistory, PromptTemplate, SavedPrompt, Technique
from prompts.tests.enhance import improved
from prompts.tests.factories import a_template
from quotas import services as quotas
from quotas.meters import Meter
from quotas.models import Reservation
from quotas.tests.factories import PlanFactory
from tests.test_permission_matrix import BUDGETS, ROWS

REQUEST = {Meter("llm", "requests"): 1}
AMOUNTS = {"amounts": {"llm.requests": 1}}
PROMPT = {"title": "Title", "content": "Content"}

# Statements by method and path, without those that begin and end transactions. Authentication is in all of them, and
# costs none.
BUDGET = {
    "GET /healthz": 0,
    "GET /api/v1/plans": 2,
    "GET /api/v1/plans/<slug>": 2,
    "POST /api/v1/auth/verify-email": 0,
    "POST /api/v1/auth/password-reset": 0,
    "GET /api/v1/users/me": 1,
    # Of the two links that the old address may have been sent, both end; if it is proven, it is told.
    "PUT /api/v1/users/me": 6,
    "PATCH /api/v1/users/me": 3,
    "GET /api/v1/users/me/api-keys": 1,
    "POST /api/v1/users/me/api-keys": 2,
    "GET /api/v1/users/me/api-keys/<pk>": 1,
    "DELETE /api/v1/users/me/api-keys/<pk>": 3,
    "POST /api/v1/users/me/api-keys/<pk>/rotate": 3,
    "GET /api/v1/users/me/sessions": 1,
    "DELETE /api/v1/users/me/sessions/<pk>": 5,
    "GET /api/v1/users/me/channels": 1,
    "POST /api/v1/users/me/channels": 3,
    "DELETE /api/v1/users/me/channels/<pk>": 4,
    "GET /api/v1/users/me/preferences": 2,
    "PATCH /api/v1/users/me/preferences": 5,
    "POST /api/v1/auth/logout": 5,
    "POST /api/v1/auth/logout-all": 6,
    "GET /api/v1/users/me/quotas": 1,
    "GET /api/v1/users/me/subscription": 1,
    "GET /api/v1/users/me/api-keys/<pk>/budgets": 2,
    "PUT /api/v1/users/me/api-keys/<pk>/budgets": 6,
    "POST /api/v1/quotas/check": 1,
    "POST /api/v1/quotas/usage": 3,
    "GET /api/v1/quotas/reservations": 1,
    "POST /api/v1/quotas/reservations": 2,
    "GET /api/v1/quotas/reservations/<pk>": 1,
    "POST /api/v1/quotas/reservations/<pk>/confirm": 3,
    "POST /api/v1/quotas/reservations/<pk>/release": 3,
    "GET /api/v1/requests": 1,
    "GET /api/v1/requests/<pk>": 1,
    "GET /api/v1/prompts/saved": 1,
    "POST /api/v1/prompts/saved": 3,
    "GET /api/v1/prompts/saved/<pk>": 1,
    "PUT /api/v1/prompts/saved/<pk>": 3,
    "PATCH /api/v1/prompts/saved/<pk>": 3,
    "DELETE /api/v1/prompts/saved/<pk>": 4,
    "POST /api/v1/prompts/saved/<pk>/move": 4,
    "POST /api/v1/prompts/saved/<pk>/duplicate": 4,
    "GET /api/v1/prompts/saved/<pk>/links": 2,
    "POST /api/v1/prompts/saved/<pk>/links": 5,
    "DELETE /api/v1/prompts/saved/<pk>/links/<link>": 5,
    "POST /api/v1/prompts/saved/import": 6,
    "GET /api/v1/prompts/collections": 1,
    "POST /api/v1/prompts/collections": 3,
    "GET /api/v1/prompts/collections/<pk>": 1,
    "PATCH /api/v1/prompts/collections/<pk>": 3,
    "DELETE /api/v1/prompts/collections/<pk>": 11,
    "POST /api/v1/prompts/collections/<pk>/move": 5,
    "POST /api/v1/prompts/collections/<pk>/duplicate": 7,
    "GET /api/v1/prompts/collections/<pk>/links": 2,
    "POST /api/v1/prompts/collections/<pk>/links": 5,
    "DELETE /api/v1/prompts/collections/<pk>/links/<link>": 5,
    "GET /api/v1/prompts/shared/<token>": 4,
    "POST /api/v1/prompts/shared/<token>/duplicate": 9,
    "GET /api/v1/prompts/templates": 2,
    "POST /api/v1/prompts/templates": 9,
    "GET /api/v1/prompts/templates/<name>": 3,
    "PATCH /api/v1/prompts/templates/<name>": 6,
    "DELETE /api/v1/prompts/templates/<name>": 7,
    "GET /api/v1/prompts/templates/<name>/versions": 3,
    "POST /api/v1/prompts/templates/<name>/versions": 7,
    "GET /api/v1/prompts/templates/<name>/versions/<number>": 3,
    "GET /api/v1/prompts/templates/<name>/diff": 6,
    "GET /api/v1/prompts/templates/<name>/labels": 2,
    "PUT /api/v1/prompts/templates/<name>/labels/<label>": 8,
    "DELETE /api/v1/prompts/templates/<name>/labels/<label>": 5,
    # One of them for a version that this process does not know yet.
    "POST /api/v1/prompts/templates/<name>/render": 2,
    # The templates of a page, what they include, and their variables; then the saved prompts.
    "POST /mcp": 4,
    "GET /api/v1/prompts/techniques": 1,
    "GET /api/v1/prompts/techniques/<name>": 1,
    "GET /api/v1/prompts/history": 1,
    "GET /api/v1/prompts/history/<pk>": 1,
    "DELETE /api/v1/prompts/history/<pk>": 3,
    # The row is locked and written, and the figures of its techniques are, in one statement for all of them.
    "POST /api/v1/prompts/history/<pk>/feedback": 5,
    "GET /api/v1/conversations": 1,
    "POST /api/v1/conversations": 1,
    "GET /api/v1/conversations/<pk>": 1,
    "PUT /api/v1/conversations/<pk>": 2,
    "PATCH /api/v1/conversations/<pk>": 3,
    "DELETE /api/v1/conversations/<pk>": 2,
    **{f"POST /api/v1/conversations/<pk>/{what}": 2 for what in ("archive", "pin")},
    # As they are already.
    **{f"POST /api/v1/conversations/<pk>/{what}": 1 for what in ("unarchive", "unpin")},
    "GET /api/v1/conversations/<pk>/messages": 2,
    # Two of them look after the partitions; it costs the same for some thousand messages.
    "POST /api/v1/conversations/import": 5,
    "POST /api/v1/conversations/<pk>/messages": 2,
    "GET /api/v1/conversations/<pk>/messages/<message_id>": 2,
    "PATCH /api/v1/conversations/<pk>/messages/<message_id>": 3,
    # Redis knows.
    "GET /api/v1/channels/<name>/active": 0,
    "GET /api/v1/analytics/daily-stats": 1,
    "GET /api/v1/analytics/technique-effectiveness": 1,
    "GET /api/v1/users/me/usage": 1,
    "GET /api/v1/users/me/dashboard": 5,
}
# Flags, which cost nothing while they are warm (quotas/tests/test_flag_store.py). Pages; a person's whole data, read or
# erased; a password, which costs a thousand times more; and calls to models, which test_road_budget.py pins.
ELSEWHERE = {
    # As `pin`, of a conversation that is deleted.
    "POST /api/v1/conversations/<pk>/restore",
    "GET /api/v1/features",
    # A call of Stripe's costs a thousand times more than a statement.
    *(f"POST /api/v1/users/me/subscription/{what}" for what in ("change", "cancel", "resume")),
    *(f"POST /api/v1/billing/{what}" for what in ("checkout-session", "portal-session", "webhook")),
    *("DELETE /api/v1/users/me", "GET /api/v1/users/me/export", "GET /api/v1/prompts/saved/export"),
    # conversations/tests/test_search.py
    "GET /api/v1/conversations/search",
    *("GET /api/v1/conversations/export", "GET /api/v1/conversations/<pk>/export"),
    *("GET /", "GET /admin", "GET /readyz", "GET /metrics", "GET /api/schema", "GET /api/docs"),
    *("GET /verify-email", "POST /verify-email", "GET /reset-password", "POST /reset-password"),
    *("POST /api/v1/users", "POST /api/v1/auth/token", "POST /api/v1/auth/token/refresh"),
    *("POST /api/v1/auth/password-reset/confirm", "POST /api/v1/users/me/change-password"),
    # As by its id, but for the search by its name.
    "DELETE /api/v1/users/me/channels",
    # prompts/tests/test_enhance.py
    "POST /api/v1/prompts/enhance",
    # A call to a model, too; prompts/tests/test_search_api.py pins what a search costs.
    *("POST /api/v1/prompts/classify", "GET /api/v1/prompts/search", "POST /api/v1/prompts/suggestions"),
    # Calls to a model, too; what a reply and its context cost, cold and warm, is in
    # conversations/tests/test_replies.py.
    "GET /api/v1/conversations/<pk>/context",
    *("POST /api/v1/conversations/<pk>/reply", "POST /api/v1/conversations/<pk>/messages/<message_id>/regenerate"),
    # As a reply; what it costs to find the conversation is in conversations/tests/test_channel_messages.py.
    "POST /api/v1/channels/<name>/messages",
    # Who calls is all that is asked of the database.
    "GET /api/v1/conversations/events",
    *("GET /v1/models", "GET /v1/models/<name>", "POST /v1/chat/completions", "POST /v1/embeddings"),
}
BODIES = {
    "POST /api/v1/auth/verify-email": {"email": "olga@example.com"},
    "POST /api/v1/auth/password-reset": {"email": "olga@example.com"},
    "PUT /api/v1/users/me": {"email": "alice2@example.com"},
    "PATCH /api/v1/users/me": {"full_name": "Alice"},
    "PATCH /api/v1/users/me/preferences": {"theme": "dark"},
    "POST /api/v1/users/me/api-keys": {"name": "key"},
    "PUT /api/v1/users/me/api-keys/<pk>/budgets": BUDGETS,
    "POST /api/v1/quotas/check": AMOUNTS,
    "POST /api/v1/quotas/usage": AMOUNTS,
    "POST /api/v1/quotas/reservations": AMOUNTS,
    "POST /api/v1/quotas/reservations/<pk>/confirm": AMOUNTS,
    "POST /api/v1/prompts/saved": PROMPT,
    "PUT /api/v1/prompts/saved/<pk>": PROMPT,
    "PATCH /api/v1/prompts/saved/<pk>": {"title": "Other"},
    "POST /api/v1/prompts/saved/import": [PROMPT | {"title": "New"}],
    "POST /api/v1/prompts/collections": {"name": "New"},
    "PATCH /api/v1/prompts/collections/<pk>": {"name": "Other"},
    "POST /api/v1/prompts/templates": {"name": "new", "content": "Hello"},
    "PATCH /api/v1/prompts/templates/<name>": {"tags": ["one"]},
    "POST /api/v1/prompts/templates/<name>/versions": {"content": "Hello"},
    "PUT /api/v1/prompts/templates/<name>/labels/<label>": {"version": 1},
    "POST /api/v1/prompts/templates/<name>/render": {"variables": {"who": "Ada"}},
    "POST /mcp": {"jsonrpc": "2.0", "id": 1, "method": "prompts/list"},
    "POST /api/v1/prompts/history/<pk>/feedback": {"rating": 4},
    "PATCH /api/v1/conversations/<pk>": {"title": "Other"},
    "POST /api/v1/conversations/import": {"messages": [{"role": "user", "content": "Hello"}]},
    "POST /api/v1/conversations/<pk>/messages": {"content": "Hello"},
    "PATCH /api/v1/conversations/<pk>/messages/<message_id>": {"content": "Hello again"},
}


@pytest.fixture
def populate(olga):
    """Add `count` rows of everything that a list shows; of prompts, where the path may show them."""
    number = itertools.count()

    def add(count, path):
        for _ in range(count):
            api_key(olga)
            tokens.sign_in(user=olga, ip=None, user_agent="")
            ChannelIdentity.objects.create(user=olga, channel_type="discord", channel_user_id=str(next(number)))
            quotas.reserve(user_id=olga.pk, amounts=REQUEST, seconds=60, by_client=True)
            if any(part in path for part in ("prompts", "mcp", "technique", "users/me", "export")):
                add_to_saved(olga, next(number))
                add_to_templates(olga)
                add_to_techniques(olga)
            conversation = Conversation.objects.create(user=olga)
            request = Request.objects.create(user=olga, api_key=ApiKey.objects.first(), request_type="llm", model="m")
            for said_in in {conversation, Conversation.objects.filter(user=olga).earliest("id")}:
                said(said_in, "Hello", request=request)
            DailyStat.objects.create(day="2026-01-01", request_type="llm", model=f"m{next(number)}")
            PlanFactory(limits={("llm", "tokens", "day"): 5, ("llm", "tokens", "month"): 5})

    return add


def add_to_saved(user, number):
    SavedPrompt.objects.create(user=user, **PROMPT)
    Collection.objects.create(user=user, name=f"Collection {number}")
    for thing in (SavedPrompt, Collection):
        sharing.create_link(target=first_of(thing, user), by=Caller(user_id=user.pk))


def add_to_templates(user):
    """One more template, and to the first one a version and a label."""
    a_template(user)
    caller = Caller(user_id=user.pk)
    first = PromptTemplate.objects.filter(user=user).earliest("id")
    version = templates.add_version(template=first, by=caller, content="Hello again")
    templates.move_label(template=first, label=f"label-{version.number}", number=version.number, by=caller)


def first_of(model, user):
    return model.objects.filter(user=user).earliest("id")


def add_to_techniques(user):
    """One more technique, and one more intent that it was used for."""
    slug = f"technique_{Technique.objects.count()}"
    by, template = Caller(user_id=user.pk), "{{ prompt }}!"
    techniques.add_technique(by=by, slug=slug, title=slug, position=99, template=template)
    improved(user, techniques=[slug])


THINGS = {
    "api-keys": ApiKey,
    "sessions": Session,
    "channels": ChannelIdentity,
    "reservations": Reservation,
    "requests": Request,
    "saved": SavedPrompt,
    "collections": Collection,
    "history": PromptHistory,
}


def address_of(path, user):
    if "<slug>" in path:
        return path.replace("<slug>", "free")
    if "/v1/channels/" in path:
        return path.replace("<name>", "telegram")
    if "/techniques/" in path:
        return path.replace("<name>", "few_shot")
    if "<name>" in path:
        name = PromptTemplate.objects.filter(user=user).earliest("id").name
        path = path.replace("<name>", name).replace("<number>", "1").replace("<label>", "production")
        return f"{path}?from=1&to=2" if path.endswith("/diff") else path
    if "<token>" in path:
        return path.replace("<token>", link_to_collection(user))
    if "<message_id>" in path:
        head = Conversation.objects.filter(user=user).earliest("id").head_id
        path = path.replace("<message_id>", str(head))
    model = next((model for part, model in THINGS.items() if f"/{part}/" in path), Conversation)
    if "<pk>" not in path:
        return path
    row = first_of(model, user)
    return path.replace("<pk>", str(row.pk)).replace("<link>", str(row.links.first().pk) if "<link>" in path else "")


def link_to_collection(user):
    """A token; what it leads to costs most."""
    token = sharing.create_link(target=first_of(Collection, user), by=Caller(user_id=user.pk))[1]
    SavedPrompt.objects.filter(user=user).update(collection=first_of(Collection, user))
    return token


def statements(client, method, address, body):
    with CaptureQueriesContext(connection) as captured:
        answer = client.generic(method, address, body)
    assert answer.status_code < 300, answer.content
    return [query["sql"] for query in captured if "SAVEPOINT" not in query["sql"]]


@pytest.mark.parametrize("route", BUDGET)
def test_an_endpoint_stays_within_its_budget(api, olga, populate, route):
    method, path = route.split()
    populate(2, path)
    client = api(olga)
    client.get("/api/v1/users/me")
    channel("api")

    found = statements(client, method, address_of(path, olga), BODIES.get(route, {}) if method != "GET" else "")

    assert len(found) == BUDGET[route], "\n".join(found)


@pytest.mark.parametrize("route", [route for route in BUDGET if route.startswith("GET /api")])
def test_a_longer_list_costs_no_more(api, olga, populate, route):
    _method, path = route.split()
    client = api(olga)
    populate(1, path)
    client.get("/api/v1/users/me")
    short = client.get(address_of(path, olga)).json()
    before = statements(client, "GET", address_of(path, olga), "")

    populate(6, path)

    assert len(statements(client, "GET", address_of(path, olga), "")) == len(before)
    if "results" in short:
        longer = client.get(address_of(path, olga)).json()
        assert len(longer["results"]) == len(short["results"]) + 6


def test_every_endpoint_has_a_budget():
    assert {f"{row.values[0]} {row.values[1]}" for row in ROWS} == BUDGET.keys() | ELSEWHERE
