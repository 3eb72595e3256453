"""/api/v1/prompts/saved: the caller's own prompts."""

import pytest
from django.db import IntegrityError, transaction

from prompts.models import SavedPrompt

PATH = "/api/v1/prompts/saved"
PROMPT = {"title": "Summary", "content": "Summarise this in three sentences."}


@pytest.fixture
def saved(alice):
    return SavedPrompt.objects.create(user=alice, **PROMPT)


def test_i_keep_a_prompt_and_find_it_again(api, alice):
    answer = api(alice).post(PATH, PROMPT | {"is_favourite": True})

    assert answer.status_code == 201
    body = answer.json()
    assert (body["title"], body["content"], body["is_favourite"]) == (PROMPT["title"], PROMPT["content"], True)
    assert SavedPrompt.objects.get().user_id == alice.pk
    assert api(alice).get(f"{PATH}/{body['id']}").json() == body
    assert api(alice).get(f"{PATH}/").json()["results"] == [body]


@pytest.mark.parametrize(
    ("address", "name"),
    [
        (PATH, "is_favourite"),
        (PATH, "is_shared"),
        ("/api/v1/prompts/collections", "is_shared"),
        ("/api/v1/prompts/history", "used_it"),
        ("/api/v1/conversations", "archived"),
    ],
)
def test_a_filter_that_is_neither_true_nor_false_is_refused(api, alice, address, name):
    for value, status in (("maybe", 400), ("True", 200), ("false", 200), ("", 200)):
        answer = api(alice).get(address, {name: value})
        assert answer.status_code == status
    error = api(alice).get(address, {name: "maybe"}).json()["error"]
    assert (error["param"], error["code"]) == (name, "invalid_boolean")


def test_nobody_learns_what_others_like_best(api, alice, bob):
    SavedPrompt.objects.create(user=alice, **PROMPT, is_shared=True, is_open=True, is_favourite=True)
    answer = api(bob).get(PATH, {"scope": "shared", "is_favourite": "true"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "is_favourite")
    assert len(api(bob).get(PATH, {"scope": "shared"}).json()["results"]) == 1


def test_what_is_not_the_callers_to_set_is_ignored(api, alice, bob):
    answer = api(alice).post(PATH, PROMPT | {"user": str(bob.pk), "user_id": str(bob.pk), "created_at": "2001-01-01"})

    assert answer.status_code == 201
    prompt = SavedPrompt.objects.get()
    assert prompt.user_id == alice.pk
    assert prompt.created_at.year > 2001


def test_i_change_and_delete_my_own(api, alice, saved):
    path = f"{PATH}/{saved.pk}"

    assert api(alice).patch(path, {"title": "Short"}).json()["content"] == PROMPT["content"]
    assert api(alice).put(path, {"title": "Long", "content": "Tell me all."}).status_code == 200
    saved.refresh_from_db()
    assert (saved.title, saved.content) == ("Long", "Tell me all.")

    assert api(alice).delete(path).status_code == 204
    assert not SavedPrompt.objects.exists()


def test_somebody_elses_prompt_does_not_exist_for_me(api, bob, olga, saved):
    path = f"{PATH}/{saved.pk}"
    for who in (bob, olga):
        answers = [
            *(api(who).get(path), api(who).patch(path, {"title": "Mine"}), api(who).put(path, PROMPT)),
            api(who).delete(path),
        ]
        assert {answer.status_code for answer in answers} == {404}
        assert api(who).get(PATH).json()["results"] == []
    saved.refresh_from_db()
    assert saved.title == PROMPT["title"]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"title": ""}, "title"),
        ({"title": None}, "title"),
        ({"title": "x" * 201}, "title"),
        ({"content": ""}, "content"),
        ({"content": {"a": 1}}, "content"),
        ({"is_favourite": "perhaps"}, "is_favourite"),
    ],
)
def test_a_senseless_prompt_is_refused(api, alice, saved, change, param):
    answers = [api(alice).post(PATH, PROMPT | change), api(alice).patch(f"{PATH}/{saved.pk}", change)]

    for answer in answers:
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == param
    assert SavedPrompt.objects.get().title == PROMPT["title"]


def test_favourites_newest_first_in_pages(api, alice, bob):
    SavedPrompt.objects.create(user=bob, is_favourite=True, **PROMPT)
    titles = [f"prompt {number}" for number in range(5)]
    for title in titles:
        api(alice).post(PATH, {"title": title, "content": "x", "is_favourite": title != "prompt 2"})

    first = api(alice).get(PATH, {"is_favourite": "true", "limit": 3}).json()
    rest = api(alice).get(first["next"]).json()

    found = [prompt["title"] for prompt in first["results"] + rest["results"]]
    assert found == ["prompt 4", "prompt 3", "prompt 1", "prompt 0"]
    assert api(alice).get(PATH, {"is_favourite": "false"}).json()["results"][0]["title"] == "prompt 2"


def test_the_database_takes_no_senseless_prompt(alice):
    for change in ({"title": ""}, {"content": ""}, {"is_shared": True, "is_open": False}):
        with pytest.raises(IntegrityError), transaction.atomic():
            SavedPrompt.objects.create(user=alice, **PROMPT | change)
