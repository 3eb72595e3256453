"""Where saved prompts are: folders, and the order in them."""

import threading

import pytest
from django.db import IntegrityError, connection, transaction

from accounts.caller import Caller
from accounts.models import AuditEvent
from accounts.services import set_user_active
from prompts import collections, saved
from prompts.models import Collection, SavedPrompt
from prompts.tree import GAP, MOST_DEPTH, renumber

SAVED = "/api/v1/prompts/saved"
COLLECTIONS = "/api/v1/prompts/collections"


def by(user):
    return Caller(user_id=user.pk)


def folder(user, name, parent=None, **fields):
    return collections.create_collection(by=by(user), name=name, parent=parent and parent.pk, **fields)


def prompt(user, title, place=None, **fields):
    return saved.create_prompt(by=by(user), title=title, content="x", collection=place and place.pk, **fields)


def titles(user, place=None):
    rows = SavedPrompt.objects.filter(user=user, collection=place).order_by("position", "id")
    return " ".join(rows.values_list("title", flat=True))


# The order -----------------------------------------------------------------------------------------------------------


def test_prompts_are_moved_within_and_between_folders(api, alice):
    work = folder(alice, "Work")
    a, b, c = (prompt(alice, title) for title in "abc")
    d = prompt(alice, "d", work)

    def move(row, **place):
        answer = api(alice).post(f"{SAVED}/{row.pk}/move", place)
        assert answer.status_code == 200, answer.json()
        return answer.json()

    move(c, before=str(a.pk))
    assert titles(alice) == "c a b"
    move(c, after=str(a.pk))
    assert titles(alice) == "a c b"
    move(a)
    assert titles(alice) == "c b a"
    assert move(b, collection=str(work.pk))["collection"] == str(work.pk)
    assert (titles(alice), titles(alice, work)) == ("c a", "d b")
    move(a, before=str(d.pk))
    assert (titles(alice), titles(alice, work)) == ("c", "a d b")
    assert move(d, collection=None)["collection"] is None
    assert (titles(alice), titles(alice, work)) == ("c d", "a b")
    listed = api(alice).get(SAVED, {"collection": str(work.pk), "ordering": "position"}).json()["results"]
    assert [row["title"] for row in listed] == ["a", "b"]


@pytest.mark.parametrize(
    ("place", "status", "param"),
    [
        ({"before": "a", "after": "b"}, 400, "after"),
        ({"before": "c"}, 400, "before"),
        ({"before": "theirs"}, 404, "before"),
        ({"after": "a", "collection": "work"}, 400, "collection"),
        ({"collection": "their folder"}, 404, "collection"),
        ({"collection": "nonsense"}, 400, "collection"),
    ],
)
def test_what_is_no_place_is_refused(api, alice, bob, place, status, param):
    rows = {title: prompt(alice, title) for title in "abc"}
    rows |= {"theirs": prompt(bob, "d"), "work": folder(alice, "Work"), "their folder": folder(bob, "Work")}
    body = {name: str(rows[value].pk) if value in rows else value for name, value in place.items()}

    answer = api(alice).post(f"{SAVED}/{rows['c'].pk}/move", body)

    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)
    assert titles(alice) == "a b c"


def test_there_is_always_room_between_two(alice):
    first, last = prompt(alice, "first"), prompt(alice, "last")
    for number in range(40):
        row = prompt(alice, str(number))
        saved.move_prompt(prompt_id=row.pk, by=by(alice), before=last.pk)

    assert titles(alice).split() == ["first", *map(str, range(40)), "last"]
    SavedPrompt.objects.filter(user=alice).update(position=7)
    saved.move_prompt(prompt_id=last.pk, by=by(alice), after=first.pk)
    assert titles(alice).split()[:2] == ["first", "last"]
    renumber(SavedPrompt.objects.filter(user=alice))
    positions = SavedPrompt.objects.filter(user=alice).order_by("position").values_list("position", flat=True)
    assert list(positions) == [GAP * number for number in range(1, 43)]


@pytest.mark.django_db(transaction=True)
def test_moves_at_the_same_time_follow_one_another(alice):
    rows = [prompt(alice, str(number)) for number in range(6)]
    SavedPrompt.objects.filter(user=alice).update(position=0)
    start = threading.Barrier(6)

    def to_the_front(row):
        start.wait()
        for _ in range(3):
            saved.move_prompt(prompt_id=row.pk, by=by(alice), before=rows[0].pk)
        connection.close()

    threads = [threading.Thread(target=to_the_front, args=[row]) for row in rows[1:]]
    for thread in threads:
        thread.start()
    start.wait()
    for thread in threads:
        thread.join()

    positions = list(SavedPrompt.objects.order_by("position").values_list("position", flat=True))
    assert len(set(positions)) == 6
    assert titles(alice).split()[-1] == "0"


# Folders -------------------------------------------------------------------------------------------------------------


def test_folders_are_made_changed_moved_and_listed(api, alice):
    client = api(alice)

    def make(name, **fields):
        answer = client.post(COLLECTIONS, {"name": name, **fields})
        assert answer.status_code == 201
        return answer.json()

    work, home = make("Work", description="What I am paid for"), make("Home")
    mails = make("Mails", parent=work["id"])

    assert client.get(f"{COLLECTIONS}/{mails['id']}").json()["parent"] == work["id"]
    assert [row["name"] for row in client.get(COLLECTIONS, {"parent": "none"}).json()["results"]] == ["Home", "Work"]
    changed = client.patch(f"{COLLECTIONS}/{home['id']}", {"name": "Garden", "parent": work["id"]}).json()
    assert (changed["name"], changed["parent"]) == ("Garden", work["id"])
    client.post(f"{COLLECTIONS}/{home['id']}/move", {"before": mails["id"]})
    inside = client.get(COLLECTIONS, {"parent": work["id"], "ordering": "position"}).json()["results"]
    assert [row["name"] for row in inside] == ["Garden", "Mails"]
    assert client.post(f"{COLLECTIONS}/{home['id']}/move", {"parent": None}).json()["parent"] is None
    assert client.get(COLLECTIONS, {"ordering": "sideways"}).json()["error"]["param"] == "ordering"
    assert client.get(COLLECTIONS, {"parent": "x"}).json()["error"]["param"] == "parent"


def test_a_folder_is_never_inside_itself_nor_too_deep(api, alice, bob):
    client = api(alice)
    chain = [folder(alice, "0")]
    for number in range(1, MOST_DEPTH):
        chain.append(folder(alice, str(number), chain[-1]))
    other = folder(alice, "other")

    for path, body, code in [
        (f"{COLLECTIONS}/{chain[0].pk}/move", {"parent": str(chain[2].pk)}, "collection_cycle"),
        (f"{COLLECTIONS}/{chain[0].pk}/move", {"parent": str(chain[0].pk)}, "collection_cycle"),
        (f"{COLLECTIONS}/{chain[0].pk}/move", {"before": str(chain[1].pk)}, "collection_cycle"),
        (f"{COLLECTIONS}/{chain[0].pk}/move", {"parent": str(other.pk)}, "too_deep"),
        (COLLECTIONS, {"name": "x", "parent": str(chain[-1].pk)}, "too_deep"),
        (COLLECTIONS, {"name": "x", "parent": str(folder(bob, "theirs").pk)}, "collection_not_found"),
        (COLLECTIONS, {"name": "other"}, "name_taken"),
        (f"{COLLECTIONS}/{chain[1].pk}/move", {"after": str(other.pk), "parent": str(chain[0].pk)}, "invalid_value"),
    ]:
        answer = client.post(path, body)
        assert answer.json()["error"]["code"] == code, (path, body)
    assert client.patch(f"{COLLECTIONS}/{chain[0].pk}", {"parent": str(chain[1].pk)}).status_code == 400
    assert client.patch(f"{COLLECTIONS}/{chain[0].pk}", {"name": "other"}).status_code == 409
    for change in ({"name": ""}, {"parent": chain[0]}, {"is_shared": True, "is_open": False}):
        with pytest.raises(IntegrityError), transaction.atomic():
            Collection.objects.filter(pk=chain[0].pk).update(**change)
    with pytest.raises(IntegrityError), transaction.atomic():
        Collection.objects.create(user=alice, name="other")


@pytest.mark.django_db(transaction=True)
def test_two_folders_moved_into_each_other_at_once_make_no_cycle(alice):
    a, b = folder(alice, "a"), folder(alice, "b")
    start, refused = threading.Barrier(2), []

    def move(row, into):
        start.wait()
        try:
            collections.move_collection(collection_id=row.pk, by=by(alice), parent=into.pk)
        except collections.InvalidInput as error:
            refused.append(error.code)
        connection.close()

    threads = [threading.Thread(target=move, args=pair) for pair in ((a, b), (b, a))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert refused == ["collection_cycle"]
    assert Collection.objects.filter(parent=None).count() == 1


def test_a_folder_that_holds_something_goes_only_with_its_content(api, alice):
    work = folder(alice, "Work")
    mails = folder(alice, "Mails", work)
    prompt(alice, "a", mails)
    kept = prompt(alice, "kept")
    path = f"{COLLECTIONS}/{work.pk}"

    refused = api(alice).delete(path)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "collection_not_empty")
    assert api(alice).delete(f"{path}?recursive=true").status_code == 204

    assert not Collection.objects.exists()
    assert SavedPrompt.objects.get() == kept
    event = AuditEvent.objects.get(action="collection.deleted")
    assert event.metadata == {"prompts": 1, "collections": 2}
    assert api(alice).delete(f"{COLLECTIONS}/{folder(alice, 'Empty').pk}").status_code == 204


# Sharing with everybody ----------------------------------------------------------------------------------------------


def test_what_is_shared_others_read_and_copy_but_never_change(api, alice, bob):
    work = folder(alice, "Work")
    row = prompt(alice, "a", work, is_favourite=True, tags=["x"])
    path = f"{SAVED}/{row.pk}"
    assert api(bob).get(path).status_code == 404

    api(alice).patch(path, {"is_shared": True})

    (seen,) = api(bob).get(SAVED, {"scope": "shared"}).json()["results"]
    assert seen == api(bob).get(path).json()
    assert (seen["is_own"], seen["is_favourite"], seen["collection"]) == (False, False, None)
    assert str(alice.pk) not in str(seen)
    assert api(bob).get(SAVED).json()["results"] == api(alice).get(SAVED, {"scope": "shared"}).json()["results"] == []
    for answer in (
        *(api(bob).patch(path, {"title": "Mine"}), api(bob).delete(path), api(bob).post(f"{path}/move", {})),
        *(api(bob).get(f"{path}/links"), api(bob).post(f"{path}/links", {})),
    ):
        assert answer.status_code == 403
    copy = api(bob).post(f"{path}/duplicate", {}).json()
    assert (copy["title"], copy["tags"], copy["is_own"], copy["is_shared"]) == ("a", ["x"], True, False)
    api(alice).patch(path, {"is_shared": False})
    assert api(bob).get(path).status_code == api(bob).post(f"{path}/duplicate", {}).status_code == 404
    assert api(alice).post(f"{path}/duplicate", {"collection": str(work.pk)}).json()["title"] == "a (copy)"
    actions = AuditEvent.objects.filter(action__startswith="saved_prompt.").values_list("action", flat=True)
    assert sorted(actions) == ["saved_prompt.shared", "saved_prompt.unshared"]


def test_a_shared_folder_opens_all_that_is_or_comes_into_it(api, alice, bob, olga):
    work = folder(alice, "Work", is_shared=True)
    mails = folder(alice, "Mails", work)
    inside, outside = prompt(alice, "inside", mails), prompt(alice, "outside")

    def seen(who=bob):
        found = api(who).get(SAVED, {"scope": "shared"}).json()["results"]
        return {row["title"] for row in found}

    assert seen() == {"inside"}
    assert api(bob).get(f"{SAVED}/{inside.pk}").json()["collection"] == str(mails.pk)
    assert api(bob).get(f"{COLLECTIONS}/{mails.pk}").json()["parent"] == str(work.pk)
    assert {row["name"] for row in api(bob).get(COLLECTIONS, {"scope": "shared"}).json()["results"]} == {
        "Work",
        "Mails",
    }
    saved.move_prompt(prompt_id=outside.pk, by=by(alice), after=inside.pk)
    assert seen() == {"inside", "outside"}
    collections.move_collection(collection_id=mails.pk, by=by(alice), parent=None)
    assert seen() == set()
    api(alice).patch(f"{COLLECTIONS}/{mails.pk}", {"parent": str(work.pk)})
    assert seen() == {"inside", "outside"}
    copy = api(bob).post(f"{COLLECTIONS}/{work.pk}/duplicate", {}).json()
    assert (copy["name"], copy["is_own"], copy["is_open"]) == ("Work", True, False)
    refused = api(bob).post(f"{COLLECTIONS}/{work.pk}/duplicate", {"parent": copy["id"]})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "parent")
    assert api(bob).post(f"{COLLECTIONS}/{work.pk}/duplicate", {}).json()["name"] == "Work (2)"
    assert titles(bob, Collection.objects.filter(user=bob, name="Mails").first()) == "inside outside"
    set_user_active(user=alice, is_active=False, by=olga)
    assert seen() == set()
    assert api(bob).get(f"{SAVED}/{inside.pk}").status_code == 404


def test_tags_variables_and_filters(api, alice):
    answer = api(alice).post(
        SAVED, {"title": "Mail", "content": "Dear {{ name }}, {{ what }} {{ name }}", "tags": ["a", "b", "a"]}
    )
    assert (answer.json()["variables"], answer.json()["tags"]) == (["name", "what"], ["a", "b"])
    broken = api(alice).post(SAVED, {"title": "Code", "content": "{{ x.__class__ }} {% if %}", "tags": ["b"]}).json()
    assert broken["variables"] == []

    def listed(**query):
        return [row["title"] for row in api(alice).get(SAVED, query).json()["results"]]

    assert (listed(tag="a"), listed(tag="b"), listed(tag="c")) == (["Mail"], ["Code", "Mail"], [])
    assert listed(ordering="title") == ["Code", "Mail"]
    for query in ({"ordering": "content"}, {"collection": "x"}, {"scope": "everybody"}):
        assert api(alice).get(SAVED, query).json()["error"]["param"] == next(iter(query))
    for tags in (["a,b"], [""], ["x" * 51], ["x"] * 21, "x"):
        assert api(alice).post(SAVED, {"title": "x", "content": "x", "tags": tags}).status_code == 400
