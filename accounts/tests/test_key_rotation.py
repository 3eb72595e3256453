"""POST users/me/api-keys/{id}/rotate"""

from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone

from accounts import services
from accounts.credentials import caller_for_key
from accounts.exceptions import NotAuthenticated
from accounts.models import ApiKey, AuditEvent
from accounts.tests.credentials import api_key

pytestmark = pytest.mark.django_db


@pytest.fixture
def committing(django_capture_on_commit_callbacks):
    return lambda: django_capture_on_commit_callbacks(execute=True)


def path(key=None):
    return f"/api/v1/users/me/api-keys/{(key or ApiKey.objects.get()).pk}/rotate"


def is_good(raw):
    try:
        caller_for_key(raw)
    except NotAuthenticated:
        return False
    return True


def test_both_texts_are_good_until_the_overlap_ends(api, alice, committing):
    old = api_key(alice, scopes=["read"])
    before = caller_for_key(old)
    with committing():
        answer = api(alice).post(path(), {"overlap_seconds": 50})
    new = answer.json()["key"]

    assert answer.status_code == 200
    assert new != old
    assert caller_for_key(new) == caller_for_key(old) == before
    with time_machine.travel(timezone.now() + timedelta(seconds=51), tick=False):
        assert [is_good(old), is_good(new)] == [False, True]
    event = AuditEvent.objects.get(action="api_key.rotated")
    assert event.metadata == {"overlap_seconds": 50}


def test_a_text_that_is_past_its_overlap_does_not_count_as_a_use(alice, committing):
    old = api_key(alice)
    with committing():
        services.rotate_api_key(key_id=ApiKey.objects.get().pk, by=alice, overlap=timedelta(0))

    assert not is_good(old)
    assert ApiKey.objects.get().last_used_at is None


def test_without_an_overlap_the_old_text_ends_at_once(api, alice, committing):
    old = api_key(alice)
    assert is_good(old)
    with committing():
        new = api(alice).post(path(), {"overlap_seconds": 0}).json()["key"]

    assert [is_good(old), is_good(new)] == [False, True]


def test_a_second_rotation_ends_the_text_before_the_last(api, alice, committing):
    texts = [api_key(alice)]
    for _ in range(2):
        assert is_good(texts[0])
        with committing():
            texts.append(api(alice).post(path()).json()["key"])

    assert [is_good(text) for text in texts] == [False, True, True]


def test_revoking_ends_both_texts(api, alice, committing):
    old = api_key(alice)
    with committing():
        new = api(alice).post(path()).json()["key"]
    assert is_good(old)
    assert is_good(new)
    with committing():
        services.revoke_api_key(key_id=ApiKey.objects.get().pk, by=alice)

    assert [is_good(old), is_good(new)] == [False, False]


def test_an_expiry_that_comes_first_ends_the_old_text_too(alice, committing):
    ends = timezone.now() + timedelta(seconds=30)
    old = api_key(alice, expires_at=ends)
    with committing():
        services.rotate_api_key(key_id=ApiKey.objects.get().pk, by=alice, overlap=timedelta(hours=1))

    with time_machine.travel(ends + timedelta(seconds=1), tick=False):
        assert not is_good(old)


def test_a_key_comes_by_no_scope_by_rotating_one_that_has_it(api, alice):
    api_key(alice, scopes=["inference"])
    stronger = ApiKey.objects.get()
    manager = api_key(alice, scopes=["admin"])

    answer = api(manager).post(path(stronger))

    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "scope_required")
    assert api(manager).post(path(ApiKey.objects.exclude(pk=stronger.pk).get())).status_code == 200


@pytest.mark.parametrize("seconds", [-1, 2_592_001, "soon", 1.5])
def test_a_senseless_overlap_changes_nothing(api, alice, seconds):
    raw = api_key(alice)
    answer = api(alice).post(path(), {"overlap_seconds": seconds})

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "overlap_seconds")
    assert ApiKey.objects.get().previous_prefix is None
    assert is_good(raw)


def test_what_has_ended_is_not_rotated(api, alice):
    api_key(alice)
    ApiKey.objects.update(is_active=False)

    answer = api(alice).post(path())
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "api_key_ended")


def test_a_strangers_key_is_not_found(api, alice, bob):
    api_key(bob)

    assert api(alice).post(path()).status_code == 404
