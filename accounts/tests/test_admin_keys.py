"""API keys and audit events in the admin: a secret is on one page, once."""

from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.utils import timezone

from accounts import services
from accounts.credentials import caller_for_key
from accounts.exceptions import NotAuthenticated
from accounts.models import ApiKey, AuditEvent
from accounts.snapshots import redis_client
from accounts.tests.credentials import api_key
from tests.admin import act, filled_form, messages, page, save


@pytest.fixture
def operator(client, olga):
    client.force_login(olga)
    return client


@pytest.fixture
def committing(django_capture_on_commit_callbacks):
    """What waits for the commit runs when the block ends: tests do not commit."""
    return lambda: django_capture_on_commit_callbacks(execute=True)


def events(*actions):
    return list(AuditEvent.objects.filter(action__in=actions).order_by("id"))


def make_key(client, owner, **fields):
    return save(client, page(ApiKey, "add"), **{"user": str(owner.pk), "name": "Laptop", **fields})


def test_a_key_is_shown_once_and_works(operator, alice, olga):
    answer = make_key(operator, alice, scopes=["act-as", "read"])

    raw = answer.context["secret"]
    assert answer.status_code == 200
    assert f'value="{raw}"' in answer.content.decode()
    assert "no-store" in answer.headers["Cache-Control"]
    caller = caller_for_key(raw)
    assert (caller.user_id, caller.scopes) == (alice.pk, frozenset({"act-as", "read"}))
    (event,) = events("api_key.created")
    assert (event.actor_id, event.metadata) == (olga.pk, {"scopes": ["act-as", "read"]})


def test_the_secret_is_nowhere_after_that_page(operator, alice):
    raw = make_key(operator, alice).context["secret"]
    secret = raw.rpartition("_")[2]
    key = ApiKey.objects.get()

    pages = [page(key), page(ApiKey, "changelist"), page(AuditEvent, "changelist"), page(alice), "/admin/"]
    html = "".join(operator.get(address, follow=True).content.decode() for address in pages)
    assert key.prefix in html
    assert secret not in html
    entries = [(entry.object_repr, entry.change_message) for entry in LogEntry.objects.all()]
    assert entries
    assert secret not in str(entries)
    assert secret not in str(list(AuditEvent.objects.values()))
    assert secret not in str(list(ApiKey.objects.values()))
    assert secret not in str(operator.cookies)
    kept = [redis_client().dump(name) for name in redis_client().keys("*")]
    assert kept
    assert secret.encode() not in b"".join(kept)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": " "}, "name"),
        ({"user": ""}, "user"),
        ({"expires_at_0": "2020-01-01", "expires_at_1": "00:00"}, "expires_at"),
        ({"expires_at_0": "tomorrow", "expires_at_1": "00:00"}, "expires_at"),
        ({"scopes": "x" * 41}, "scopes"),
    ],
)
def test_a_key_that_cannot_be_is_explained_at_the_field(operator, alice, fields, field):
    answer = make_key(operator, alice, **fields)

    assert field in answer.context["adminform"].form.errors
    assert not ApiKey.objects.exists()


def test_no_key_is_made_for_a_user_who_is_shut_out(operator, alice):
    services.set_user_active(user=alice, is_active=False, by=alice)

    answer = make_key(operator, alice)

    assert "user" in answer.context["adminform"].form.errors


def test_a_key_with_an_expiry(operator, alice):
    make_key(operator, alice, expires_at_0="2999-01-01", expires_at_1="12:00:00")

    assert ApiKey.objects.get().expires_at.year == 2999


def test_a_user_page_leads_to_the_form_for_that_user(operator, alice):
    leads_to = operator.get(page(alice, "new_key")).headers["Location"]

    assert filled_form(operator, leads_to)["user"] == str(alice.pk)


def test_a_revoked_key_is_refused_at_once(operator, alice, olga, committing):
    raw = api_key(alice)
    key = ApiKey.objects.get()
    caller_for_key(raw)

    with committing():
        answer = act(operator, key, "revoke")

    with pytest.raises(NotAuthenticated):
        caller_for_key(raw)
    assert "is revoked" in messages(answer, operator)[0]
    (event,) = events("api_key.revoked")
    assert (event.actor_id, event.target_id) == (olga.pk, str(key.pk))
    assert operator.get(page(key, "revoke")).status_code == 403


def test_revoking_needs_more_than_opening_its_address(operator, alice):
    api_key(alice)
    key = ApiKey.objects.get()

    operator.get(page(key, "revoke"))
    operator.post(page(key, "revoke"))

    key.refresh_from_db()
    assert key.is_active


def test_many_keys_are_revoked_in_one_go(operator, alice):
    for _ in range(3):
        api_key(alice)
    chosen = [str(key.pk) for key in ApiKey.objects.all()]
    services.revoke_api_key(key_id=chosen[0], by=alice)

    operator.post(page(ApiKey, "changelist"), {"action": "revoke_chosen", "_selected_action": chosen})

    assert not ApiKey.objects.filter(is_active=True).exists()
    assert len(events("api_key.revoked")) == 3


def test_keys_are_found_by_name_owner_and_visible_part(operator, alice, bob):
    raw = api_key(alice, name="Laptop")
    api_key(bob, name="Server")

    def found(term):
        return [key.name for key in operator.get(page(ApiKey, "changelist"), {"q": term}).context["cl"].result_list]

    assert found("lapt") == ["Laptop"]
    assert found("bob@") == ["Server"]
    assert found(raw[:10]) == ["Laptop"]
    assert found(raw) == ["Laptop"]
    assert found("msk_nothing") == []


def test_keys_say_and_are_filtered_by_their_state(operator, alice, bob):
    now = timezone.now()
    for name, fields in {
        "usable": {},
        "revoked": {"is_active": False},
        "expired": {"expires_at": now - timedelta(days=1)},
        "waiting": {"user": bob},
    }.items():
        api_key(alice, name=name)
        ApiKey.objects.filter(name=name).update(**fields)
    services.set_user_active(user=bob, is_active=False, by=alice)

    html = operator.get(page(ApiKey, "changelist")).content.decode()
    for state in ("usable", "revoked", "expired", "owner inactive"):
        assert state in html
    for state in ("usable", "revoked", "expired"):
        listed = operator.get(page(ApiKey, "changelist"), {"state": state}).context["cl"].result_list
        assert [key.name for key in listed] == [state]


# Audit events


def test_events_are_found_by_the_id_of_actor_target_or_event(operator, alice, bob):
    services.set_user_active(user=alice, is_active=False, by=bob)
    event = AuditEvent.objects.get()

    for term in (str(alice.pk), str(bob.pk), str(event.pk), "bob@", "deactivated"):
        assert list(operator.get(page(AuditEvent, "changelist"), {"q": term}).context["cl"].result_list) == [event]
    assert not operator.get(page(AuditEvent, "changelist"), {"q": "carol"}).context["cl"].result_list


def test_an_event_shows_its_details_and_links_to_actor_and_target(operator, alice, bob):
    event = services.audit.record("user.praised", by=bob, target=alice, reason="<b>well</b> done")
    services.audit.record("house.cleaned", by=None)
    services.audit.record("entry.read", by=bob, target=LogEntry(pk=1234))

    html = operator.get(page(event)).content.decode()

    assert "&lt;b&gt;well&lt;/b&gt; done" in html
    assert page(alice) in html
    assert page(bob) in html
    listed = operator.get(page(AuditEvent, "changelist")).content.decode()
    assert "the system" in listed
    assert "logentry …1234" in listed
