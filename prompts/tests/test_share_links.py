"""Links: /api/v1/prompts/{saved,collections}/…/links, and what they show to people without an account."""

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts.caller import Caller
from accounts.erasing import erase_user
from accounts.merging import merge_users
from accounts.models import AuditEvent
from accounts.services import set_user_active
from prompts import collections, saved, sharing
from prompts.models import Collection, SavedPrompt, ShareLink

SAVED = "/api/v1/prompts/saved"
COLLECTIONS = "/api/v1/prompts/collections"
SHARED = "/api/v1/prompts/shared"


def by(user):
    return Caller(user_id=user.pk)


@pytest.fixture
def prompt(alice):
    return saved.create_prompt(by=by(alice), title="Mail", content="Dear {{ name }}", tags=["office"])


@pytest.fixture
def shelf(alice):
    """A folder with a prompt and, in another folder, two."""
    work = collections.create_collection(by=by(alice), name="Work", description="Of mine")
    mails = collections.create_collection(by=by(alice), name="Mails", parent=work.pk)
    for title, place in (("a", work), ("b", mails), ("c", mails)):
        saved.create_prompt(by=by(alice), title=title, content="x", collection=place.pk)
    return work


def link_to(target, user, **fields):
    return sharing.create_link(target=target, by=by(user), **fields)[1]


def test_a_link_shows_a_prompt_to_anybody_until_it_is_revoked(api, alice, prompt):
    path = f"{SAVED}/{prompt.pk}/links"
    made = api(alice).post(path, {}).json()
    token = made["token"]

    answer = api().get(f"{SHARED}/{token}")

    assert answer.json() == {
        "type": "prompt",
        "prompt": {
            "title": "Mail",
            "description": "",
            "content": "Dear {{ name }}",
            "variables": ["name"],
            "tags": ["office"],
            "updated_at": answer.json()["prompt"]["updated_at"],
        },
    }
    assert (answer["Cache-Control"], answer["Referrer-Policy"]) == ("no-store", "no-referrer")
    assert token not in str(ShareLink.objects.values().get())
    (listed,) = api(alice).get(path).json()
    assert (listed["id"], listed["use_count"], "token" in listed) == (made["id"], 1, False)
    assert listed["last_used_at"] is not None
    assert api(alice).delete(f"{path}/{made['id']}").status_code == 204
    assert api().get(f"{SHARED}/{token}").status_code == 404
    assert api(alice).get(path).json()[0]["revoked_at"] is not None
    actions = AuditEvent.objects.filter(action__startswith="share_link").order_by("id")
    assert list(actions.values_list("action", flat=True)) == ["share_link.created", "share_link.revoked"]


def test_a_link_shows_a_folder_with_all_that_is_in_it_in_pages(api, alice, shelf):
    token = link_to(shelf, alice)

    first = api().get(f"{SHARED}/{token}", {"limit": 2}).json()
    rest = api().get(first["next"]).json()

    assert first["collection"] == {"name": "Work", "description": "Of mine", "folders": [["Mails"]]}
    found = [(row["title"], row["folder"]) for row in first["results"] + rest["results"]]
    assert sorted(found) == [("a", []), ("b", ["Mails"]), ("c", ["Mails"])]
    for secret in (
        str(alice.pk),
        alice.email,
        str(shelf.pk),
        *map(str, SavedPrompt.objects.values_list("pk", flat=True)),
    ):
        assert secret not in str(first)


@pytest.mark.parametrize("end", ["expired", "deactivated", "erased", "prompt deleted", "never was", "cut"])
def test_a_link_that_is_over_leads_nowhere(api, alice, olga, prompt, end):
    token = link_to(prompt, alice)
    match end:
        case "expired":
            ShareLink.objects.update(expires_at=timezone.now())
        case "deactivated":
            set_user_active(user=alice, is_active=False, by=olga)
        case "erased":
            erase_user(user_id=alice.pk, by=olga)
        case "prompt deleted":
            saved.delete_prompt(prompt_id=prompt.pk, by=by(alice))
        case "never was":
            token = f"shr_{'0' * 12}_{'x' * 43}"
        case "cut":
            token = token[:-1]

    answers = [api().get(f"{SHARED}/{token}"), api(olga).post(f"{SHARED}/{token}/duplicate", {})]

    assert [answer.status_code for answer in answers] == [404, 404]
    assert "Mail" not in answers[0].content.decode()


def test_a_link_follows_its_owner_into_a_merge(api, alice, bob, olga, prompt, shelf):
    tokens = [link_to(prompt, alice), link_to(shelf, alice)]
    collections.create_collection(by=by(bob), name="Work")

    merge_users(source_id=alice.pk, target_id=bob.pk, by=olga)

    assert [api().get(f"{SHARED}/{token}").status_code for token in tokens] == [200, 200]
    assert set(SavedPrompt.objects.values_list("user_id", flat=True)) == {bob.pk}
    names = Collection.objects.filter(user=bob, parent=None).order_by("id").values_list("name", flat=True)
    assert sorted(names) == ["Work", f"Work ({shelf.pk.hex[-12:]})"]


def test_what_a_link_shows_can_be_kept(api, alice, bob, prompt, shelf):
    own = collections.create_collection(by=by(bob), name="From others")

    copy = api(bob).post(f"{SHARED}/{link_to(prompt, alice)}/duplicate", {"collection": str(own.pk)}).json()
    tree = api(bob).post(f"{SHARED}/{link_to(shelf, alice)}/duplicate", {}).json()

    assert (copy["prompt"]["title"], copy["prompt"]["collection"], copy["collection"]) == ("Mail", str(own.pk), None)
    assert (tree["collection"]["name"], tree["prompt"]) == ("Work", None)
    mails = Collection.objects.get(user=bob, name="Mails")
    assert list(mails.prompts.order_by("position").values_list("title", flat=True)) == ["b", "c"]
    assert SavedPrompt.objects.filter(user=alice).count() == 4
    assert api().post(f"{SHARED}/{link_to(prompt, alice)}/duplicate", {}).status_code == 401


def test_links_are_their_owners_to_make_and_revoke(api, alice, bob, prompt, shelf):
    link, _token = sharing.create_link(target=prompt, by=by(alice))
    assert api(bob).get(f"{SAVED}/{prompt.pk}/links").status_code == 404
    assert api(bob).post(f"{COLLECTIONS}/{shelf.pk}/links", {}).status_code == 404
    assert api(bob).delete(f"{SAVED}/{prompt.pk}/links/{link.pk}").status_code == 404
    assert api(alice).delete(f"{COLLECTIONS}/{shelf.pk}/links/{link.pk}").status_code == 404
    past = api(alice).post(f"{SAVED}/{prompt.pk}/links", {"expires_at": timezone.now() - timedelta(seconds=1)})
    assert past.json()["error"]["param"] == "expires_at"
    link.refresh_from_db()
    assert link.revoked_at is None


def test_the_database_takes_no_senseless_link(alice, prompt, shelf):
    whole = {"user": alice, "prompt": prompt, "prefix": "p", "token_hash": "a" * 64}
    for change in ({"prompt": None}, {"collection": shelf}, {"token_hash": "secret"}):
        with pytest.raises(IntegrityError), transaction.atomic():
            ShareLink.objects.create(**whole | change)


def test_so_many_links_and_no_more(alice, prompt, monkeypatch):
    monkeypatch.setattr(sharing, "MOST_LINKS", 1)
    link, _token = sharing.create_link(target=prompt, by=by(alice))
    with pytest.raises(sharing.Conflict):
        link_to(prompt, alice)
    sharing.revoke_link(links=prompt.links.all(), link_id=link.pk, by=by(alice))

    assert link_to(prompt, alice)


def test_an_address_opens_so_many_links(api, alice, prompt, settings):
    settings.RATELIMIT_SHARED = "2/m"
    token = link_to(prompt, alice)

    statuses = [api().get(f"{SHARED}/{token}").status_code for _ in range(3)]

    assert statuses == [200, 200, 429]
