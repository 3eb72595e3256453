"""Prices in the admin: what has begun stays, what is new is on the road at once, and lists come and go as CSV."""

from datetime import timedelta

import pytest
import time_machine
from django.contrib.auth.models import Permission
from django.core.cache import cache
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse
from django.utils import timezone

from accounts.admin.transfer import MOST_BYTES, MOST_ROWS
from accounts.models import AuditEvent
from accounts.tests.factories import UserFactory
from inference.models import Model, Price, Provider
from inference.routes import routes_for
from tests.admin import filled_form, messages, page, save

HEAD = "model,fallback_order,unit,usd_per_million,valid_from"
IMPORT, CONFIRM, EXPORT = (f"/admin/inference/price/{name}/" for name in ("import", "process_import", "export"))
DAY = timedelta(days=1)


@pytest.fixture
def operator(client, olga):
    client.force_login(olga)
    return client


@pytest.fixture
def model(db):
    provider = Provider.objects.create(name="openai", base_url="https://api.example.com/v1")
    return Model.objects.create(name="m", provider=provider, upstream_name="m")


@pytest.fixture
def prices(model):
    """One that is past, one that is valid, one that is to come."""
    now = timezone.now().replace(microsecond=0)
    return [
        Price.objects.create(model=model, unit="input_tokens", price=micro, valid_from=now + days * DAY)
        for micro, days in ((200_000, -9), (150_000, -1), (120_000, 9))
    ]


def stored():
    return sorted(Price.objects.values_list("model__name", "unit", "price"))


def events():
    return list(AuditEvent.objects.order_by("id").values_list("action", flat=True))


# Pages -----------------------------------------------------------------------------------------------------------


def test_a_model_shows_its_history_and_takes_new_prices(operator, model, prices, django_capture_on_commit_callbacks):
    coming, history = operator.get(page(model)).context["inline_admin_formsets"]
    assert [form.instance for form in coming.formset.initial_forms] == [prices[2]]
    assert [form.instance for form in history.formset.initial_forms] == [prices[1], prices[0]]
    assert routes_for("m", "llm")[0].cost({Price.Unit.OUTPUT_TOKENS: 1_000_000}, at=timezone.now()) == 0

    new = {"unit": "output_tokens", "price": "0.6", "valid_from_0": "2026-01-01", "valid_from_1": "00:00:00"}
    rows = {"prices-TOTAL_FORMS": "2", **{f"prices-1-{name}": value for name, value in new.items()}}
    with time_machine.travel(timezone.now(), tick=False), django_capture_on_commit_callbacks(execute=True):
        save(operator, page(model), **rows)

    assert stored()[-1] == ("m", "output_tokens", 600_000)
    assert AuditEvent.objects.get(action="model.updated").metadata == {
        "fields": ["prices: Output tokens from 2026-01-01 00:00:00"]
    }
    assert routes_for("m", "llm")[0].cost({Price.Unit.OUTPUT_TOKENS: 1_000_000}, at=timezone.now()) == 600_000
    listed = operator.get(page(Model, "changelist")).content.decode()
    assert "in $0.15 · out $0.60" in listed


@pytest.mark.parametrize("number", [0, 1])
def test_a_price_that_has_begun_can_be_neither_changed_nor_deleted(operator, prices, number):
    begun = prices[number]
    assert operator.get(page(begun)).context["has_change_permission"] is False
    for address in (page(begun), page(begun, "delete")):
        assert operator.post(address, {"post": "yes", "unit": "seconds", "price": "1"}).status_code == 403
    begun.refresh_from_db()
    assert begun.terms == prices[number].terms
    assert events() == []


def test_the_history_on_the_page_of_a_model_takes_no_forged_change(operator, model, prices):
    form = filled_form(operator, page(model))
    forged = {"prices-2-0-price": "9", "prices-2-0-DELETE": "on", "prices-2-0-valid_from_0": "2030-01-01"}
    swapped = {"prices-0-id": str(prices[0].pk), "prices-0-price": "9"}
    for changes in (forged, swapped):
        operator.post(page(model), form | changes)
        assert stored() == [("m", "input_tokens", price.price) for price in reversed(prices)]


def test_a_coming_price_can_be_changed_and_deleted(operator, prices):
    save(operator, page(prices[2]), price="0.11")
    prices[2].refresh_from_db()
    assert prices[2].price == 110_000
    operator.post(page(prices[2], "delete"), {"post": "yes"})
    assert not Price.objects.filter(pk=prices[2].pk).exists()
    assert events() == ["price.updated", "price.deleted"]


@pytest.mark.parametrize("usd", ["-1", "NaN", "1e30", "0.0000001", "a lot", ""])
def test_a_price_that_cannot_be_is_explained_at_the_field(operator, model, usd):
    sent = {"model": str(model.pk), "unit": "seconds", "price": usd}
    answer = operator.post(page(Price, "add"), {**sent, "valid_from_0": "2026-01-01", "valid_from_1": "00:00"})
    assert "price" in answer.context["adminform"].form.errors
    assert stored() == []


def test_the_list_says_what_is_valid_in_words(operator, model, prices):
    Price.objects.create(model=model, unit="seconds", price=100_000_000)
    Price.objects.create(model=model, unit="requests", price=10**10)
    html = operator.get(page(Price, "changelist"), {"model": str(model.pk)}).content.decode()
    for text in ("$0.15 a million input tokens", "$0.006 a minute", "$0.01 a request", "past", "current", "future"):
        assert text in html
    other = operator.get(page(Price, "changelist"), {"model": str(model.provider_id)})
    assert list(other.context["cl"].result_list) == []


# Files -----------------------------------------------------------------------------------------------------------


def upload(client, text):
    content = text if isinstance(text, bytes) else text.encode()
    return client.post(IMPORT, {"import_file": SimpleUploadedFile("prices.csv", content), "format": "0"})


def confirm(client, preview):
    return client.post(CONFIRM, preview.context["confirm_form"].initial)


def errors(preview):
    assert "confirm_form" not in preview.context
    result = preview.context["result"]
    return [str(error.error) for error in result.base_errors] + [
        (row.number, sorted(row.error_dict)) for row in result.invalid_rows
    ]


def test_an_export_comes_back_as_it_went_and_changes_what_was_edited(
    operator, olga, model, prices, django_capture_on_commit_callbacks
):
    answer = operator.get(EXPORT, {"model": str(model.pk)})
    text = answer.content.decode()
    lines = text.splitlines()
    assert answer["Content-Type"] == "text/csv"
    assert lines[0] == HEAD
    assert [line.split(",")[:4] for line in lines[1:]] == [
        ["m", "0", "input_tokens", usd] for usd in ("0.2", "0.15", "0.12")
    ]

    routes_for("m", "llm")
    edited = text.replace("0.12", "0.11") + "m,0,requests,10000,2027-01-01 00:00\r\n"
    preview = upload(operator, "\ufeff" + edited)
    assert [row.import_type for row in preview.context["result"].rows] == ["skip", "skip", "update", "new"]
    assert "<s>0.12</s> 0.11" in preview.content.decode()
    assert (len(stored()), events()) == (3, ["price.exported"])
    with django_capture_on_commit_callbacks(execute=True):
        done = confirm(operator, preview)

    assert messages(done, operator) == ["Imported: 1 new, 1 changed, 2 as they were."]
    assert stored() == [("m", "input_tokens", micro) for micro in (110_000, 150_000, 200_000)] + [
        ("m", "requests", 10**10)
    ]
    assert events() == ["price.exported", "price.updated", "price.created"]
    assert AuditEvent.objects.get(action="price.updated").actor_id == olga.pk
    assert AuditEvent.objects.get(action="price.updated").target_id == str(prices[2].pk)
    assert "requests" in routes_for("m", "llm")[0].prices


def test_broken_rows_are_named_one_by_one_and_nothing_is_imported(operator, prices):
    rows = [
        "m,0,seconds,1,2027-01-01",
        "m,0,seconds,a lot,2027-01-02",
        "m,7,parsecs,-1,2027-99-01",
        "m,0,input_tokens,1,2020-01-01",
        "m,0,seconds,2,2027-01-01",
        f"m,0,input_tokens,9,{prices[0].valid_from:%Y-%m-%d %H:%M:%S}",
        "<b>m</b>,x,seconds,,",
        "m",
    ]
    preview = upload(operator, "\n".join([HEAD, *rows]))

    assert errors(preview) == [
        (2, ["price"]),
        (3, ["model", "price", "unit", "valid_from"]),
        (4, ["valid_from"]),
        (6, ["__all__"]),
        (7, ["model", "price", "valid_from"]),
        (8, ["price", "unit", "valid_from"]),
    ]
    html = preview.content.decode()
    assert "There is no model &lt;b&gt;m&lt;/b&gt; with the order x." in html
    assert "<b>m</b>" not in html
    assert (len(stored()), events()) == (3, [])


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ("model;unit\nm;seconds\n", "must name these columns"),
        (f"{HEAD},id\nm,0,seconds,1,2027-01-01,1\n", "must name these columns"),
        (HEAD + "\n" + "m,0,seconds,1,2027-01-01\n" * (MOST_ROWS + 1), "at most 1,000 rows"),
        (HEAD + "\nm,0,seconds,1,2027-01-01,more\n", "Line 2 has 6 cells instead of 5"),
        (HEAD + "\n", "No valid data"),
        (b"\xff\xfe\x00", "no CSV file"),
        (b"x" * (MOST_BYTES + 1), "at most 500 kB"),
    ],
)
def test_a_file_that_is_none_is_refused_as_a_whole(operator, model, text, refusal):
    preview = upload(operator, text)
    assert preview.status_code == 200
    assert "confirm_form" not in preview.context
    html = preview.content.decode()
    assert refusal in html
    assert "Traceback" not in html
    assert stored() == []


def test_what_changed_since_the_preview_is_not_imported_in_part(operator, model):
    rows = ["m,0,seconds,1,2027-01-01", "m,0,requests,1,2027-01-01"]
    preview = upload(operator, "\n".join([HEAD, *rows]))
    Price.objects.create(model=model, unit="requests", price=1, valid_from=timezone.now() + 999 * DAY)

    with time_machine.travel(timezone.now() + 1000 * DAY, tick=False):
        done = confirm(operator, preview)

    assert done.headers["Location"] == IMPORT
    assert messages(done, operator) == ["Nothing was imported, for what is stored has changed: upload it again."]
    assert stored() == [("m", "requests", 1)]
    assert "price.created" not in events()


def test_a_preview_that_is_not_kept_any_more_is_asked_for_again(operator, model):
    preview = upload(operator, f"{HEAD}\nm,0,seconds,1,2027-01-01")
    cache.clear()
    operator.force_login(UserFactory(is_staff=True, is_superuser=True))

    assert messages(confirm(operator, preview), operator) == ["The file is not kept any more: upload it again."]
    assert stored() == []


def test_a_name_that_is_a_formula_goes_out_guarded_and_comes_back(operator, model, prices):
    Model.objects.update(name="=1+1")
    text = operator.get(EXPORT).content.decode()
    assert "\n'=1+1,0," in text
    assert [row.import_type for row in upload(operator, text).context["result"].rows] == ["skip"] * 3


@pytest.mark.parametrize(("permissions", "exports", "imports"), [((), 403, 403), (("view_price",), 200, 403)])
def test_files_are_for_who_may_see_and_who_may_change(client, prices, permissions, exports, imports):
    viewer = UserFactory(is_staff=True)
    viewer.user_permissions.add(*Permission.objects.filter(codename__in=permissions))
    client.force_login(viewer)

    assert client.get(EXPORT).status_code == exports
    assert client.get(IMPORT).status_code == imports
    assert client.post(CONFIRM, {}).status_code == imports
    if permissions:
        html = client.get(page(Price, "changelist")).content.decode()
        assert reverse("admin:inference_price_export") in html
        assert reverse("admin:inference_price_import") not in html
