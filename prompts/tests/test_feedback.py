"""What people say of improved prompts, what is learned from it, and the history that it belongs to."""

import random
from collections import defaultdict
from dataclasses import astuple
from decimal import Decimal

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.models import F

from accounts.exceptions import Conflict, InvalidInput
from prompts.enhance import choosing, history, rewards
from prompts.enhance.choosing import Option, drawn
from prompts.enhance.drafting import draft, intent_as_given
from prompts.enhance.rewards import Sums, reward_of, sums_of
from prompts.enhance.wishes import Wish
from prompts.models import IntentPattern, PromptHistory, Technique, TechniqueEffectiveness, TechniqueVersion
from prompts.tests.enhance import improved
from prompts.tests.intents import caller_of
from quotas.tests.test_concurrency import in_threads

pytestmark = pytest.mark.django_db

HISTORY = "/api/v1/prompts/history"
NAMES = ("shown", "used", "successes", "failures", "rating_count", "rating_sum")


def kept():
    rows = TechniqueEffectiveness.objects.values_list("intent", "technique__slug", *NAMES)
    return {(intent, slug): Sums(*sums) for intent, slug, *sums in rows if any(sums)}


def summed():
    """The same, from the history alone."""
    parts = defaultdict(list)
    for row in PromptHistory.objects.all():
        for slug in history.slugs_of(row):
            parts[row.intent, slug].append(astuple(sums_of(row) if slug in row.counted else Sums(shown=1)))
    return {key: Sums(*map(sum, zip(*rows, strict=True))) for key, rows in parts.items()}


def said(user, row, **feedback):
    return history.give_feedback(history_id=row.pk, by=caller_of(user), **feedback)


@pytest.mark.parametrize(
    ("feedback", "reward"),
    [
        ({}, None),
        ({"comment": "Hm."}, None),
        ({"rating": 5}, "1"),
        ({"rating": 2}, "0.25"),
        ({"thumbs": "down", "used_it": True}, "0.33"),
        ({"rating": 4, "thumbs": "up", "used_it": False}, "0.70"),
    ],
)
def test_what_a_judgement_is_worth(feedback, reward):
    assert reward_of(PromptHistory(**feedback)) == (None if reward is None else Decimal(reward))


# Over HTTP -----------------------------------------------------------------------------------------------------------


def test_feedback_is_kept_counted_and_replaced(api, alice):
    row = improved(alice)
    client = api(alice)

    answer = client.post(f"{HISTORY}/{row.pk}/feedback", {"rating": 2, "thumbs": "down", "comment": "Too long."})
    assert (answer.status_code, answer.json()["rating"], answer.json()["thumbs"]) == (200, 2, "down")
    assert kept()["debugging", "role"] == Sums(1, 0, Decimal("0.12"), Decimal("0.88"), 1, 2)
    for change in ({"rating": 5, "thumbs": "up"}, {"used_it": True}, {"rating": None}, {"thumbs": None, "rating": 3}):
        assert client.post(f"{HISTORY}/{row.pk}/feedback", change).status_code == 200
        assert kept() == summed()
    shown = client.get(f"{HISTORY}/{row.pk}").json()
    assert (shown["rating"], shown["thumbs"], shown["used_it"], shown["comment"]) == (3, "", True, "Too long.")

    client.post(f"{HISTORY}/{row.pk}/feedback", {"rating": None, "used_it": None, "comment": ""})
    assert set(kept().values()) == {Sums(shown=1)}
    assert client.get(f"{HISTORY}/{row.pk}").json()["feedback_at"] is None


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, None),
        ({"rating": 0}, "rating"),
        ({"rating": 6}, "rating"),
        ({"thumbs": "sideways"}, "thumbs"),
        ({"comment": "x" * 2001}, "comment"),
        ({"comment": "a\0b"}, None),
        ({"used_it": "perhaps"}, "used_it"),
    ],
)
def test_feedback_that_makes_no_sense_is_refused(api, alice, body, param):
    row = improved(alice)

    answer = api(alice).post(f"{HISTORY}/{row.pk}/feedback", body)

    assert answer.status_code == 400
    assert param is None or answer.json()["error"]["param"] == param
    assert set(kept().values()) == {Sums(shown=1)}


def test_only_its_owner_judges_reads_and_deletes_a_prompt(api, alice, bob):
    row = improved(alice)
    theirs = f"{HISTORY}/{row.pk}"

    assert api(bob).post(f"{theirs}/feedback", {"rating": 1}).status_code == 404
    assert api(bob).get(theirs).status_code == api(bob).delete(theirs).status_code == 404
    assert api(bob).get(HISTORY).json()["results"] == []
    assert api(alice).delete(theirs).status_code == 204
    assert not PromptHistory.objects.exists()


def test_the_history_is_filtered(api, alice):
    rows = [
        improved(alice, intent="debugging", techniques=["role"]),
        improved(alice, intent="code", techniques=["react", "constraints"]),
    ]
    said(alice, rows[0], rating=4)

    def found(**query):
        return [one["id"] for one in api(alice).get(HISTORY, query).json()["results"]]

    first, second = (str(row.pk) for row in rows)
    assert found() == [second, first]
    assert found(intent="code") == found(technique="constraints") == [second]
    assert found(technique="role") == found(rating=4) == [first]
    assert found(created_after=rows[1].created_at.isoformat()) == [second]
    assert found(created_before=rows[1].created_at.isoformat()) == [first]
    assert api(alice).get(HISTORY, {"rating": "x"}).status_code == 400


def test_a_list_shows_the_beginnings_of_long_texts(api, alice):
    row = improved(alice, prompt="x" * 3000)
    short = improved(alice, prompt=" Why? ")

    listed = {one["id"]: one for one in api(alice).get(HISTORY).json()["results"]}

    assert (len(listed[str(row.pk)]["original"]), listed[str(row.pk)]["is_cut"]) == (2000, True)
    assert (listed[str(short.pk)]["original"], listed[str(short.pk)]["is_cut"]) == (" Why? ", False)
    assert api(alice).get(f"{HISTORY}/{row.pk}").json()["original"] == row.original


def test_techniques_are_listed_as_they_are_now(api, alice):
    Technique.objects.filter(slug="react").update(is_active=False)

    listed = api(alice).get("/api/v1/prompts/techniques").json()["results"]

    assert len(listed) == 15
    assert {one["name"] for one in listed} >= {"chain_of_thought", "few_shot", "role"}
    assert all("{{ prompt }}" in one["template"] and one["source_url"].startswith("https://") for one in listed)
    one = api(alice).get("/api/v1/prompts/techniques/few_shot").json()
    assert (one["version"], one["parameters"][0]["name"]) == (1, "examples")
    assert api(alice).get("/api/v1/prompts/techniques/react").status_code == 404


# Learning ------------------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_concurrent_feedback_adds_up_exactly(alice):
    """On rows of its own, on one row for all, and against prompts that are improved meanwhile."""
    rows = [improved(alice) for _ in range(8)]

    def judge(number):
        chance = random.Random(number)
        for _ in range(4):
            said(alice, rows[number], rating=chance.choice([None, 1, 2, 3, 4, 5]), used_it=chance.choice([True, None]))
            said(alice, rows[0], thumbs=chance.choice(["up", "down", ""]))
            improved(alice, techniques=["chain_of_thought", "role"][:: chance.choice([1, -1])])

    in_threads(judge, 8)

    assert kept() == summed()
    assert kept()["debugging", "role"].shown == 40
    assert kept()["debugging", "role"].rating_count <= 3


def test_what_the_caller_has_named_teaches_nothing(api, alice):
    named = improved(alice, is_named=True)
    assert api(alice).post(f"{HISTORY}/{named.pk}/feedback", {"rating": 5}).json()["counted"] == []
    assert set(kept().values()) == {Sums(shown=1)}
    for wish in (Wish("a"), Wish("a", techniques=("role",)), Wish("a", intent="code"), Wish("a", seed=0)):
        assert draft(wish, intent_as_given("code")).is_experiment is (wish == Wish("a"))


def test_of_one_user_three_prompts_count_for_a_technique(alice, bob):
    rows = [improved(alice, techniques=["role"]) for _ in range(5)]
    rows.append(improved(alice, techniques=["role", "react"]))
    for row in rows:
        said(alice, row, rating=5)
    role, react = ("debugging", "role"), ("debugging", "react")
    assert (kept()[role].successes, kept()[role].shown, kept()[react].successes) == (3, 6, 1)
    said(bob, improved(bob, techniques=["role"]), rating=1)
    assert (kept()[role].successes, kept()[role].failures) == (3, 1)

    said(alice, rows[4], rating=1)
    assert kept()[role].failures == 1
    said(alice, rows[0], rating=1)
    assert (kept()[role].successes, kept()[role].failures) == (2, 2)
    said(alice, rows[0], rating=None)
    said(alice, rows[3], rating=4)
    assert kept()[role] == Sums(7, 0, Decimal("2.75"), Decimal("1.25"), 4, 15)
    assert kept() == summed()


def test_a_judgement_goes_with_its_prompt(api, alice):
    for _ in range(5):
        row = improved(alice)
        said(alice, row, rating=5)
        assert api(alice).delete(f"{HISTORY}/{row.pk}").status_code == 204
    assert set(kept().values()) == {Sums(shown=5)}


def test_what_works_is_chosen_more_often_and_the_reason_says_how_often():
    def option(slug, worked, failed):
        return Option(slug, "", 1, "{{ prompt }}", [], worked, failed)

    options = [option("role", 2, 30), option("constraints", 14, 2), option("few_shot", 0, 0)]
    first = [drawn(options, intent="debugging", seed=seed, most=1)[0] for seed in range(200)]
    chosen = [choice.option.slug for choice in first]

    assert chosen.count("constraints") > 130
    assert chosen.count("role") < 5 < chosen.count("few_shot")
    reason = next(choice for choice in first if choice.option.slug == "constraints").reason
    assert reason.startswith("worked in 14 of 16 judged uses for debugging; drawn 0.")


def test_of_a_group_one_is_drawn_and_at_most_as_many_as_asked_for(db):
    options = choosing.options_for("maths")
    for seed in range(40):
        choices = drawn(options, intent="maths", seed=seed, most=4)
        groups = [choice.option.group for choice in choices if choice.option.group]
        assert 1 <= len(choices) <= 4
        assert len(groups) == len(set(groups))
        assert [option for option in options if option in [choice.option for choice in choices]] == [
            choice.option for choice in choices
        ]


def test_a_corrected_intent_takes_its_feedback_along_and_counts_at_once(alice, olga):
    row, other = improved(alice), improved(alice)
    said(alice, row, rating=5, used_it=True)

    history.correct_intent(history_id=row.pk, intent="code", text="  Why does it crash? ", by=caller_of(olga))

    assert kept() == summed()
    assert kept()["code", "role"].successes == 1
    assert kept()["debugging", "role"] == Sums(shown=1)
    pattern = IntentPattern.objects.get(text="Why does it crash?")
    assert (pattern.intent, pattern.source) == ("code", "correction")
    history.correct_intent(history_id=other.pk, intent="maths", text="Why does it crash?", by=caller_of(olga))
    assert IntentPattern.objects.get(text="Why does it crash?").intent == "maths"
    with pytest.raises(Conflict):
        history.correct_intent(history_id=row.pk, intent="code", text="x", by=caller_of(olga))
    with pytest.raises(InvalidInput):
        history.correct_intent(history_id=row.pk, intent="unknown", text="x", by=caller_of(olga))
    assert kept() == summed()


# What the database keeps ---------------------------------------------------------------------------------------------


def test_versions_of_techniques_stay_as_they_are():
    version = TechniqueVersion.objects.first()
    for change in (lambda: TechniqueVersion.objects.update(template="x"), version.delete):
        with pytest.raises(IntegrityError, match="stay as they are"), transaction.atomic():
            change()


def test_sums_that_cannot_be_are_refused(alice):
    improved(alice)
    for change in ({"used": F("shown") + 1}, {"successes": 2}, {"failures": -1}, {"rating_count": 1}):
        with pytest.raises(IntegrityError), transaction.atomic():
            TechniqueEffectiveness.objects.update(**change)


def test_a_technique_that_is_gone_stops_no_feedback(alice):
    row = improved(alice)
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE prompts_techniqueversion DISABLE TRIGGER techniqueversion_no_change")
    Technique.objects.filter(slug="role").delete()

    said(alice, row, rating=5)

    assert [slug for _intent, slug in kept()] == ["chain_of_thought"]
    rewards.add(intent="debugging", slugs=[], sums=Sums(shown=1))
