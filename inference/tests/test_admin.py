"""Providers, models and requests in the admin: keys go in and never come out; edits are on the road at once."""

import re

import pytest
from django.contrib.admin.models import LogEntry
from django.utils import timezone

from accounts.models import AuditEvent
from inference.exceptions import ModelNotFound
from inference.models import Model, Provider, Request
from inference.routes import routes_for
from tests.admin import page, save

SECRET = "sk-never-to-be-seen-again"


@pytest.fixture
def operator(client, olga):
    client.force_login(olga)
    return client


@pytest.fixture
def provider(db):
    return Provider.objects.create(name="openai", base_url="https://api.example.com/v1", api_key=SECRET)


@pytest.fixture
def committing(django_capture_on_commit_callbacks):
    return lambda: django_capture_on_commit_callbacks(execute=True)


def last_event():
    return AuditEvent.objects.order_by("-id").first()


def form_of_rows(prefix, *rows):
    fields = {f"{prefix}-TOTAL_FORMS": str(len(rows))}
    return fields | {
        f"{prefix}-{number}-{name}": value for number, row in enumerate(rows) for name, value in row.items()
    }


# Providers


def test_a_provider_is_made_with_its_models_and_key(operator, olga):
    rows = form_of_rows("offered_models", {"name": "m", "kind": "llm", "upstream_name": "up", "fallback_order": "0"})
    save(operator, page(Provider, "add"), name="new", base_url="http://10.0.0.1/v1", new_api_key=SECRET, **rows)

    provider = Provider.objects.get()
    assert provider.api_key == SECRET
    assert provider.offered_models.get().upstream_name == "up"
    event = last_event()
    assert (event.action, event.actor_id, event.target_id) == ("provider.created", olga.pk, str(provider.pk))
    assert "new_api_key" in event.metadata["fields"]
    assert "offered_models: m at new" in event.metadata["fields"]
    assert SECRET not in str(event.metadata)


def test_an_empty_key_keeps_the_stored_one(operator, provider):
    save(operator, page(provider), base_url="https://api.example.com/v2")

    provider.refresh_from_db()
    assert (provider.base_url, provider.api_key) == ("https://api.example.com/v2", SECRET)
    assert last_event().metadata == {"fields": ["base_url"]}


@pytest.mark.parametrize(
    "url", ["https://evil.example/v1", "http://api.example.com/v1", "https://api.example.com:8443/v1"]
)
def test_a_stored_key_does_not_move_to_another_server(operator, provider, url):
    answer = save(operator, page(provider), base_url=url)

    assert "another server" in str(answer.context["adminform"].form.errors["new_api_key"])
    provider.refresh_from_db()
    assert provider.base_url == "https://api.example.com/v1"

    save(operator, page(provider), base_url=url, new_api_key="sk-of-that-server")
    provider.refresh_from_db()
    assert (provider.base_url, provider.api_key) == (url, "sk-of-that-server")


def test_a_provider_without_a_key_moves_freely(operator, provider):
    save(operator, page(provider), base_url="https://other.example.com/v1", remove_api_key="on")
    save(operator, page(provider), base_url="https://third.example.com/v1")

    provider.refresh_from_db()
    assert (provider.base_url, provider.api_key) == ("https://third.example.com/v1", "")


def test_a_key_is_replaced_and_removed(operator, provider):
    save(operator, page(provider), new_api_key="sk-another")
    provider.refresh_from_db()
    assert provider.api_key == "sk-another"

    save(operator, page(provider), remove_api_key="on")
    provider.refresh_from_db()
    assert provider.api_key == ""
    assert last_event().metadata == {"fields": ["remove_api_key"]}


def test_a_key_is_not_replaced_and_removed_at_once(operator, provider):
    answer = save(operator, page(provider), new_api_key="sk-another", remove_api_key="on")

    assert "remove_api_key" in answer.context["adminform"].form.errors
    assert "sk-another" not in answer.content.decode()
    provider.refresh_from_db()
    assert provider.api_key == SECRET


def test_a_key_never_comes_out(operator, provider):
    save(operator, page(provider), new_api_key=SECRET + "2", name="renamed")
    refused = operator.post(page(provider), {"new_api_key": SECRET + "3"})

    pages = [page(provider), page(Provider, "changelist"), page(provider, "history"), page(provider, "delete")]
    html = refused.content.decode() + "".join(operator.get(p, follow=True).content.decode() for p in pages)
    assert "renamed" in html
    assert SECRET not in html
    assert LogEntry.objects.exists()
    assert SECRET not in str([(entry.object_repr, entry.change_message) for entry in LogEntry.objects.all()])
    assert SECRET not in str(list(AuditEvent.objects.values()))


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"base_url": "ftp://example.com"}, "base_url"),
        ({"base_url": "http://"}, "base_url"),
        ({"connect_timeout": "0"}, "connect_timeout"),
        ({"read_timeout": "99999"}, "read_timeout"),
        ({"name": "taken"}, "name"),
    ],
)
def test_a_provider_that_cannot_be_is_explained_at_the_field(operator, provider, fields, field):
    Provider.objects.create(name="taken", base_url="http://127.0.0.1/v1")

    answer = save(operator, page(provider), **fields)

    assert field in answer.context["adminform"].form.errors
    assert not AuditEvent.objects.exists()


def test_a_deleted_provider_is_audited_and_off_the_road_at_once(operator, provider, committing):
    Model.objects.create(name="m", provider=provider, upstream_name="m")
    assert routes_for("m", "llm")

    with committing():
        operator.post(page(provider, "delete"), {"post": "yes"})

    assert (last_event().action, last_event().metadata) == ("provider.deleted", {"name": "openai"})
    with pytest.raises(ModelNotFound):
        routes_for("m", "llm")


# Models


def test_an_edited_model_is_on_the_road_at_once(operator, provider, committing):
    model = Model.objects.create(name="m", provider=provider, upstream_name="m", context_window=1)
    assert routes_for("m", "llm")[0].context_window == 1

    with committing():
        save(operator, page(model), context_window="8192")

    assert routes_for("m", "llm")[0].context_window == 8192
    assert (last_event().action, last_event().metadata) == ("model.updated", {"fields": ["context_window"]})

    with committing():
        save(operator, page(model), is_active=None)
    with pytest.raises(ModelNotFound):
        routes_for("m", "llm")


def test_a_provider_that_is_switched_off_is_off_the_road_at_once(operator, provider, committing):
    Model.objects.create(name="m", provider=provider, upstream_name="m")
    routes_for("m", "llm")

    with committing():
        save(operator, page(provider), is_active=None)

    with pytest.raises(ModelNotFound):
        routes_for("m", "llm")


def test_a_deleted_model_is_audited(operator, provider, committing):
    model = Model.objects.create(name="m", provider=provider, upstream_name="m")

    with committing():
        operator.post(page(model, "delete"), {"post": "yes"})

    assert (last_event().action, last_event().metadata) == ("model.deleted", {"name": "m at openai"})


def test_models_stand_by_name_and_order(operator, provider):
    for name, order in (("b", 1), ("a", 2), ("b", 0), ("a", 0)):
        Model.objects.create(name=name, fallback_order=order, provider=provider, upstream_name="x")

    listed = operator.get(page(Model, "changelist")).context["cl"].result_list

    assert [(row.name, row.fallback_order) for row in listed] == [("a", 0), ("a", 2), ("b", 0), ("b", 1)]


def test_a_model_says_that_its_provider_is_off(operator, provider):
    Model.objects.create(name="m", provider=provider, upstream_name="m")
    Provider.objects.update(is_active=False)

    assert "provider off" in operator.get(page(Model, "changelist")).content.decode()


def test_two_models_of_one_name_and_order_are_refused(operator, provider):
    Model.objects.create(name="m", provider=provider, upstream_name="m")

    answer = save(operator, page(Model, "add"), name="m", provider=str(provider.pk), upstream_name="m")

    assert answer.status_code == 200
    assert answer.context["adminform"].form.errors
    assert Model.objects.count() == 1


# Requests


@pytest.fixture
def requests(alice, bob):
    common = {"finished_at": timezone.now(), "model": "smollm2", "request_type": "llm"}
    return [
        Request.objects.create(user=alice, **common | {"status": "success", "cost": 2_500, "input_tokens": 1200}),
        Request.objects.create(
            user=bob,
            **common
            | {
                "status": "error",
                "error_code": "upstream_error",
                "error_message": "It answered 503.",
                "is_stream": True,
                "processing_time": 1234,
                "request_data": {"messages": [{"role": "user", "content": "Größe & <script>alert(1)</script>"}]},
            },
        ),
        Request.objects.create(user=bob, model="vectors", request_type="embedding"),
    ]


def test_requests_show_status_tokens_money_and_time(operator, requests):
    html = operator.get(page(Request, "changelist")).content.decode()

    cells = re.sub(r"<[^>]+>|\s+", " ", html)
    for text in ("1,200 · 0", "$0.0025", "upstream error", "1,234", "llm, stream", "Running"):
        assert text in cells
    for colour in ("bg-green-100", "bg-red-100", "bg-blue-100"):
        assert colour in html


def test_requests_are_found_and_filtered(operator, requests):
    Model.objects.create(
        name="vectors", upstream_name="v", provider=Provider.objects.create(name="p", base_url="http://x/v1")
    )

    def listed(**query):
        found = operator.get(page(Request, "changelist"), query).context["cl"].result_list
        return sorted(requests.index(row) for row in found)

    assert listed() == [0, 1, 2]
    assert listed(q="bob@") == [1, 2]
    assert listed(q="smoll") == [0, 1]
    assert listed(q=str(requests[1].pk)) == [1]
    assert listed(status__exact="running") == [2]
    assert listed(request_type__exact="embedding") == [2]
    assert listed(is_stream__exact="1") == [1]
    assert listed(model="vectors") == [2]
    assert listed(user__id__exact=str(requests[0].user_id)) == [0]


def test_a_request_shows_its_bodies_readable_and_harmless(operator, requests):
    html = operator.get(page(requests[1])).content.decode()

    assert "Größe &amp; &lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "<script>alert(1)" not in html
    assert "It answered 503." in html


def test_the_list_does_not_read_the_bodies(operator, requests, django_assert_max_num_queries):
    with django_assert_max_num_queries(8) as captured:
        operator.get(page(Request, "changelist"))

    assert not any('"request_data"' in query["sql"] for query in captured.captured_queries)
    assert not any(
        "count(" in query["sql"].lower() and "inference_request" in query["sql"] for query in captured.captured_queries
    )
