"""What keys may give and may be used for. Every route is tried with and without its scope in the permission matrix."""

import pytest

from accounts import services
from accounts.exceptions import NotAllowed
from accounts.models import ApiKey
from accounts.scopes import DEFAULT_SCOPES, Scope
from accounts.tests.credentials import api_key
from tests.routes import api_views

KEYS = "/api/v1/users/me/api-keys"
ME = "/api/v1/users/me"

pytestmark = pytest.mark.django_db


def error_code(answer):
    return answer.json()["error"]["code"]


def test_every_view_of_the_api_declares_its_scope():
    found = api_views()
    assert len(found) > 20
    for path, view in found:
        assert view.scope is None or view.scope in Scope, path


def test_a_key_that_says_nothing_may_do_what_programs_do_and_not_manage_the_account(api, alice):
    key = api(alice).post(KEYS, {"name": "program"}).json()

    assert set(key["scopes"]) == set(DEFAULT_SCOPES)
    assert api(key["key"]).get(ME).status_code == 200
    answer = api(key["key"]).patch(ME, {"email": "thief@example.com"}, content_type="application/json")
    assert (answer.status_code, error_code(answer)) == (403, "scope_required")
    assert answer.json()["error"]["type"] == "permission_error"


def test_read_reads_everything_and_changes_nothing(api, alice):
    reader = api(api_key(alice, scopes=["read"]))

    assert reader.get("/api/v1/conversations").status_code == 200
    assert reader.get(KEYS).status_code == 200
    assert reader.post("/api/v1/conversations", {}).status_code == 403
    assert reader.post(KEYS, {"name": "x"}).status_code == 403


def test_one_area_does_not_open_another(api, alice):
    prompts = api(api_key(alice, scopes=["prompts"]))

    assert prompts.get("/api/v1/prompts/saved").status_code == 200
    assert prompts.get("/api/v1/conversations").status_code == 403
    assert prompts.get(ME).status_code == 403


def test_a_key_cannot_give_what_it_does_not_have(api, alice):
    manager = api(api_key(alice, scopes=["admin"]))

    assert manager.post(KEYS, {"name": "x", "scopes": ["admin"]}).status_code == 201
    answer = manager.post(KEYS, {"name": "x", "scopes": ["inference"]})
    assert (answer.status_code, error_code(answer)) == (403, "scope_required")
    assert manager.post(KEYS, {"name": "x"}).status_code == 403


def test_only_operators_give_what_acts_for_others(api, alice, olga):
    assert api(alice).post(KEYS, {"name": "bot", "scopes": ["act-as"]}).status_code == 403
    assert api(olga).post(KEYS, {"name": "bot", "scopes": ["act-as"]}).status_code == 201
    with pytest.raises(NotAllowed):
        services.create_api_key(user_id=alice.pk, name="bot", scopes=["act-as"], by=alice)


@pytest.mark.parametrize("scopes", [[], ["everything"], ["read", "READ"], "read", [None]])
def test_scopes_that_make_no_sense_are_refused(api, alice, scopes):
    answer = api(alice).post(KEYS, {"name": "x", "scopes": scopes})

    assert answer.status_code == 400
    assert answer.json()["error"]["param"].startswith("scopes")
    assert not ApiKey.objects.exists()
