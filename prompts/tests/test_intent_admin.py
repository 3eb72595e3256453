"""Patterns and classifiers in the admin."""

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from accounts.models import AuditEvent
from prompts.models import IntentClassifier, IntentPattern
from prompts.tests.intents import make_patterns, train, vector
from tests.admin import act, messages, page, save

LIST = page(IntentPattern, "changelist")


@pytest.fixture
def operator(client, olga):
    client.force_login(olga)
    return client


def upload(client, *lines, **fields):
    file = SimpleUploadedFile("rows.csv", "\n".join(("intent,text,language,is_active", *lines)).encode())
    return client.post(f"{LIST}import/", {"import_file": file, "format": "0", **fields})


def test_a_pattern_is_written_changed_and_corrected(operator, olga):
    make_patterns(each=1)
    save(operator, page(IntentPattern, "add"), intent="lights", text="turn them on", language="en")
    made = IntentPattern.objects.get(intent="lights")
    assert (made.source, made.created_by, made.embedding) == ("operator", olga, None)

    save(operator, page(made), is_active=None)
    said = messages(act(operator, made, "correct_intent", intent="weather"), operator)

    made.refresh_from_db()
    assert said[-1] == "This means weather from now on."
    assert (made.intent, made.source, made.is_active) == ("weather", "correction", True)
    events = AuditEvent.objects.filter(target_id=str(made.pk)).order_by("id").values_list("action", flat=True)
    assert list(events) == ["intentpattern.created", "intentpattern.updated", "intentpattern.corrected"]


def test_the_intent_of_the_nearest_neighbours_is_chosen_already(operator):
    make_patterns(each=2)
    wrong = IntentPattern.objects.create(
        intent="alarm", text="what a sky", embedding=vector("weather", 9), embedding_model="vectors"
    )

    assert '<option value="weather" selected>' in operator.get(page(wrong, "correct_intent")).content.decode()


def test_lists_are_filtered_exported_and_imported_row_by_row(operator):
    make_patterns(each=2)
    IntentPattern.objects.filter(intent="music").update(embedding=None, embedding_model="")

    def listed(**query):
        return {row.intent for row in operator.get(LIST, query).context["cl"].result_list}

    assert listed(embedded="no") == listed(intent="music") == {"music"}
    assert listed(source__exact="starter") == set()
    exported = operator.get(f"{LIST}export/", {"intent": "alarm"}).content.decode().splitlines()
    assert sorted(exported) == [
        "alarm,alarm please 0,en,yes",
        "alarm,alarm please 1,en,yes",
        "intent,text,language,is_active",
    ]

    rows = ("lights,turn them on,,", "Bad Name,x,en,yes", "alarm,alarm please 0,en,no", "unknown,x,en,yes")
    refused = upload(operator, *rows)
    assert [row.number for row in refused.context["result"].invalid_rows] == [2, 4]
    preview = upload(operator, *rows, good_rows="on")
    operator.post(f"{LIST}process_import/", preview.context["confirm_form"].initial)

    assert IntentPattern.objects.filter(intent="lights", is_active=True).count() == 1
    assert not IntentPattern.objects.get(text="alarm please 0").is_active


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("lights,dim, please,en,yes", "Line 4 has 5 cells instead of 4."),
        (f"lights,{'x' * 200_000},en,yes", "at most 500 characters (it has 200000)"),
    ],
)
def test_a_row_of_another_shape_is_an_error_of_that_row(operator, row, said):
    rows = ('lights,"on\nnow",en,yes', row, "lights,off now,en,yes")

    refused = upload(operator, *rows)
    preview = upload(operator, *rows, good_rows="on")
    operator.post(f"{LIST}process_import/", preview.context["confirm_form"].initial)

    assert [row.number for row in refused.context["result"].invalid_rows] == [2]
    assert said in refused.content.decode()
    assert set(IntentPattern.objects.filter(intent="lights").values_list("text", flat=True)) == {"on\nnow", "off now"}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (
            b'lights,"never,en,yes\nlights,more,en,yes',
            "Line 3: the row that begins here has a quote",
        ),
        (b"lights,\xed\xa0\x80,en,yes", "Line 3: this is no CSV file in UTF-8"),
        (b"lights,\xff,en,yes", "Line 3: this is no CSV file in UTF-8"),
    ],
)
def test_a_file_that_cannot_be_read_names_the_line(operator, row, said):
    lines = b"intent,text,language,is_active\nlights,on,en,yes\n" + row
    file = SimpleUploadedFile("rows.csv", lines)

    answer = operator.post(f"{LIST}import/", {"import_file": file, "format": "0", "good_rows": "on"})

    assert said in answer.content.decode()
    assert "confirm_form" not in answer.context


def test_a_classifier_shows_its_figures_by_intent_and_is_trained_anew(operator, settings):
    settings.EMBEDDING_MODEL = "vectors"
    make_patterns()
    version = train()

    html = operator.get(page(version)).content.decode()
    answer = operator.post(page(IntentClassifier, "retrain"), {"_form_submitted": "on"})

    assert "Out-of-scope AUROC" in html
    assert "100.0 % of 8" in html
    assert messages(answer, operator) == ["A new version waits for a worker."]
    assert set(IntentClassifier.objects.values_list("version", "status")) == {(1, "ready"), (2, "pending")}
    IntentClassifier.objects.filter(version=2).update(status="training", progress=40)
    assert "being trained, 40 %" in operator.get(page(IntentClassifier, "changelist")).content.decode()
