"""GET /api/v1/conversations/search: what was said, found by its words."""

from urllib.parse import parse_qs, urlsplit

import pytest
from django.db import connection

from conversations import lifecycle, partitions, threads
from conversations.models import Message
from conversations.search import Asked, search
from conversations.tests.factories import a_conversation, said

SEARCH = "/api/v1/conversations/search"


@pytest.fixture
def talks(alice, bob):
    support = a_conversation(alice, "Where is my refund?", "Your refund has gone out.", title="Money", channel="web")
    said(support, "Die Rückerstattung der Prüfung", role="assistant", model_used="gpt-4o")
    a_conversation(alice, "refund refund <b>refund</b> & more", channel="discord")
    lifecycle.delete(conversation=a_conversation(alice, "refund, long gone"))
    a_conversation(bob, "a refund of somebody else's")
    return support


@pytest.fixture
def find(api, alice):
    def ask(q="refund", **query):
        return api(alice).get(SEARCH, {"q": q, **query})

    return ask


def texts(answer):
    assert answer.status_code == 200, answer.content
    return [(row["channel"], row["sequence"]) for row in answer.json()["results"]]


def test_ones_own_messages_are_found_best_first_and_marked(find, talks):
    body = find().json()

    assert body["mode_used"] == "text"
    assert (body["next"], body["previous"]) == (None, None)
    first = body["results"][0]
    assert (
        first["highlight"]
        == "<mark>refund</mark> <mark>refund</mark> &lt;b&gt;<mark>refund</mark>&lt;/b&gt; &amp; more"
    )
    assert {(row["channel"], row["sequence"]) for row in body["results"]} == {("discord", 1), ("web", 1), ("web", 2)}
    second = body["results"][1]
    assert (second["conversation"], second["title"], second["role"]) == (str(talks.pk), "Money", second["role"])
    assert second["id"] == str(talks.messages.get(sequence=second["sequence"]).pk)
    assert body["results"] == sorted(body["results"], key=lambda row: (row["score"], row["id"]), reverse=True)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"q": "refunds gone"}, [("web", 2)]),
        ({"q": '"refund has gone"'}, [("web", 2)]),
        ({"q": "refund -gone -b"}, [("web", 1)]),
        ({"q": "prüfung"}, [("web", 3)]),
        ({"q": "b"}, [("discord", 1)]),
        ({"q": "nothing"}, []),
        ({"channel": "discord"}, [("discord", 1)]),
        ({"role": "assistant"}, [("web", 2)]),
        ({"q": "rückerstattung", "model": "gpt-4o"}, [("web", 3)]),
        ({"model": "gpt-4o"}, []),
        ({"created_after": "2999-01-01T00:00:00Z"}, []),
        ({"created_before": "2020-01-01T00:00:00Z"}, []),
        ({"created_after": "2020-01-01T00:00:00Z", "role": "assistant"}, [("web", 2)]),
    ],
)
def test_words_and_filters_narrow(find, talks, query, expected):
    assert texts(find(**query)) == expected


def test_other_peoples_and_deleted_conversations_are_never_searched(find, api, bob, alice, talks):
    theirs = bob.conversations.get()
    assert texts(find(conversation=str(theirs.pk))) == []
    assert len(texts(find(conversation=str(talks.pk)))) == 2
    assert api().get(SEARCH, {"q": "refund"}).status_code == 401
    lifecycle.delete(conversation=talks)
    assert texts(find()) == [("discord", 1)]
    assert len(api(bob).get(SEARCH, {"q": "refund"}).json()["results"]) == 1


def test_branches_that_are_not_current_are_found_too(find, talks):
    threads.edit(message=talks.messages.get(sequence=1), content="Where is my money?")
    assert sorted(texts(find(q="where is my"))) == [("web", 1), ("web", 4)]


def test_pages_hold_everything_once(find, api, alice, django_assert_num_queries):
    a_conversation(alice, *(f"refund {'again ' * (number % 3)}" for number in range(9)))
    seen, page = [], find(limit=2).json()
    while page["next"]:
        seen += page["results"]
        page = api(alice).get(page["next"]).json()
    seen += page["results"]
    assert len(seen) == len({row["id"] for row in seen}) == 9
    assert [row["score"] for row in seen] == sorted((row["score"] for row in seen), reverse=True)
    (cursor,) = parse_qs(urlsplit(find(limit=2).json()["next"]).query)["cursor"]
    with django_assert_num_queries(1):
        assert len(search(Asked(alice.pk, "refund", limit=2), cursor)["results"]) == 2
    for other in (find(q="again", cursor=cursor), find(cursor="x")):
        assert (other.status_code, other.json()["error"]["code"]) == (404, "invalid_cursor")


@pytest.mark.parametrize(
    "query",
    [{"q": ""}, {"q": " "}, {"q": "x" * 1001}, {"q": "a\0"}, {"mode": "semantic"}, {"role": "judge"}, {"limit": 0}],
)
def test_bad_questions_are_refused(find, query):
    answer = find(**query)
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")


def test_the_words_of_every_month_are_indexed_and_long_texts_are_kept(find, alice):
    talk = a_conversation(alice, "needle " + " ".join(f"w{number}" for number in range(100_000)), "x " * 100_000)
    assert len(texts(find(q="needle"))) == 1
    assert not hasattr(threads.branch(conversation_id=talk.pk, last=said(talk, "x").pk)[0], "tsv")
    with connection.cursor() as cursor:
        cursor.execute("SELECT tablename FROM pg_indexes WHERE indexdef LIKE %s", ["%USING gin (tsv)%"])
        indexed = {name for (name,) in cursor.fetchall()}
    assert {partitions.name_of(month) for month in partitions.partitions()} | {partitions.DEFAULT} <= indexed
    assert Message.objects.filter(conversation=talk).count() == 3
