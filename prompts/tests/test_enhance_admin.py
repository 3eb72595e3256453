"""Techniques, the history of improved prompts, and the map of what works, in the admin."""

import pytest

from accounts.exceptions import Conflict
from accounts.models import AuditEvent
from prompts import techniques
from prompts.enhance import history
from prompts.models import IntentPattern, PromptHistory, Technique, TechniqueEffectiveness
from prompts.tests.enhance import improved
from prompts.tests.intents import caller_of
from tests.admin import act, filled_form, messages, page, save

pytestmark = pytest.mark.django_db


@pytest.fixture
def operator(client, olga):
    client.force_login(olga)
    return client


def test_a_technique_is_added_and_each_change_of_its_text_is_a_version(operator, olga):
    fields = {"slug": "politely", "title": "Politely", "description": "Says please.", "position": 5, "is_active": "on"}
    save(operator, page(Technique, "add"), **fields, template="{{ prompt }}\r\nPlease.", parameters="[]")
    made = Technique.objects.get(slug="politely")
    assert (made.latest_version, made.versions.get().template) == (1, "{{ prompt }}\nPlease.")
    assert made.versions.get().author_id == olga.pk

    save(operator, page(made), when_it_helps="Always.")
    save(
        operator,
        page(made),
        template="{{ prompt }}\nPlease, {{ who }}.",
        parameters='[{"name": "who", "default": "dear model"}]',
    )
    save(operator, page(made))

    made.refresh_from_db()
    assert (made.latest_version, made.when_it_helps, made.versions.count()) == (2, "Always.", 2)
    shown = operator.get(page(made), {"from": 1, "to": 2}).content.decode()
    assert "+Please, {{ who }}." in shown
    assert "-Please." in shown
    events = AuditEvent.objects.filter(target_id=str(made.pk)).order_by("id").values_list("action", "metadata__fields")
    assert list(events) == [
        ("technique.created", None),
        ("technique.updated", ["when_it_helps"]),
        ("technique.updated", ["version 2"]),
    ]


@pytest.mark.parametrize(
    ("template", "parameters", "field", "said"),
    [
        ("No place for it", "[]", "template", "must stand in the template once, not 0 times"),
        ("{{ prompt }} {{ prompt }}", "[]", "template", "not 2 times"),
        ("{{ prompt }} {% now %}", "[]", "template", "Templates run nothing"),
        ("{{ prompt }} {{ x.__class__ }}", "[]", "template", "neither the name of a variable"),
        ("{{ prompt }} {{> other }}", "[]", "template", "includes no others"),
        ("{{ prompt }} {{ who }}", "[]", "template", "not among the parameters"),
        ("{{ prompt }}", '[{"name": "who"}]', "parameters", "needs a default"),
        ("{{ prompt }}", '[{"name": "prompt", "default": "x"}]', "parameters", "no parameter"),
        ("{{ prompt }}", '[{"nome": "who"}]', "parameters", "no field nome"),
    ],
)
def test_a_technique_that_could_not_be_applied_is_not_saved(operator, template, parameters, field, said):
    technique = Technique.objects.get(slug="role")
    body = filled_form(operator, page(technique), template=template, parameters=parameters)

    form = operator.post(page(technique), body).context["adminform"].form

    assert said in form.errors[field][0]
    assert technique.versions.count() == 1


def test_a_page_that_is_out_of_date_changes_nothing(operator, olga):
    technique = Technique.objects.get(slug="role")
    body = filled_form(operator, page(technique), title="Part")
    techniques.change_technique(technique_id=technique.pk, template="Be kind. {{ prompt }}", by=caller_of(olga))

    said = operator.post(page(technique), body).content.decode()

    assert "Somebody has saved version 2 while this page was open." in said
    technique.refresh_from_db()
    assert (technique.latest_version, technique.title) == (2, "Role")
    with pytest.raises(Conflict):
        techniques.change_technique(
            technique_id=technique.pk, template="{{ prompt }}", seen_version=1, by=caller_of(olga)
        )


def test_a_filter_that_is_no_text_is_refused_as_any_other(operator):
    for query in ({"technique": "\0"}, {"intent": "a\0"}, {"created_at__gte": "\0"}):
        answer = operator.get(page(PromptHistory, "changelist"), query)
        assert (answer.status_code, answer.url.endswith("?e=1")) == (302, True)


def test_a_name_that_is_taken_is_refused(operator):
    fields = {"slug": "role", "title": "Role", "description": "Again.", "position": 5}
    answer = save(operator, page(Technique, "add"), **fields, template="{{ prompt }}", parameters="[]")

    assert "already exists" in answer.context["adminform"].form.errors["slug"][0]


def test_a_wrong_intent_is_corrected_from_the_history(operator, alice):
    row = improved(alice, prompt="Why does it crash? I am Alice.")
    dialog = operator.get(page(row, "correct_intent")).content.decode()
    assert '<option value="debugging">' in dialog
    assert '<option value="debugging" selected' not in dialog
    assert "Why does it crash? I am Alice." in dialog

    said = messages(act(operator, row, "correct_intent", intent="code", text="Why does it crash?"), operator)

    assert said[-1] == "This means code from now on."
    assert IntentPattern.objects.get(text="Why does it crash?").intent == "code"
    assert PromptHistory.objects.get().intent == "code"
    assert "from debugging to code" in operator.get(page(row)).content.decode()
    assert AuditEvent.objects.filter(action="prompthistory.corrected", target_id=str(row.pk)).exists()
    again = messages(act(operator, row, "correct_intent", intent="code", text="x"), operator)
    assert again[-1] == "This prompt means code already."


def test_the_history_shows_what_was_said_and_is_filtered(operator, alice):
    judged, other = improved(alice), improved(alice, techniques=["react"], intent="code", is_named=True)
    history.give_feedback(
        history_id=judged.pk, by=caller_of(alice), rating=2, thumbs="down", used_it=True, comment="Too <b>long</b>."
    )

    shown = operator.get(page(judged)).content.decode()
    for text in ("2 of 5", "bad", "Too &lt;b&gt;long&lt;/b&gt;.", "named by the caller", "chain_of_thought"):
        assert text in shown

    def listed(**query):
        found = operator.get(page(PromptHistory, "changelist"), query).context["cl"].result_list
        return {row.pk for row in found}

    assert listed(technique="react") == listed(intent="code") == listed(feedback="none") == {other.pk}
    assert listed(feedback="any") == listed(feedback="2") == listed(thumbs__exact="down") == {judged.pk}


def test_the_map_shows_what_is_known_and_what_is_guessed(operator, alice, bob):
    address = page(TechniqueEffectiveness, "changelist")
    assert "technique-map" not in operator.get(address).content.decode()
    for user in (alice, bob):
        for _ in range(3):
            row = improved(user, intent="data_extraction", techniques=["structured_output"])
            history.give_feedback(history_id=row.pk, by=caller_of(user), rating=5)

    shown = operator.get(address)

    found = {line["title"]: line["cells"][0] for line in shown.context["map"]["rows"]}
    assert (found["Structured output"]["is_judged"], found["Structured output"]["percent"]) == (True, "96")
    assert found["Chain of thought"]["is_judged"] is False
    assert "Structured output, data extraction: 96%, most likely between 86% and 100%; 6 judged, shown 6 times" in (
        shown.content.decode()
    )
