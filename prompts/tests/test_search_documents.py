"""What is searched follows the prompts by itself, and nobody finds what is not for them."""

from datetime import timedelta

import pytest
from django.db import connection
from django.db.models import F

from accounts.models import User
from prompts import templates
from prompts.models import (
    Collection,
    DocumentEmbedding,
    EmbeddingModel,
    PromptHistory,
    PromptTemplate,
    SavedPrompt,
    SearchDocument,
)
from prompts.search import vectors
from prompts.search.finding import Asked, Filters, find
from prompts.search.modes import Mode
from prompts.tests.factories import a_template
from prompts.tests.intents import caller_of
from prompts.tests.searching import document, saved

pytestmark = pytest.mark.django_db


def found(user, text, **filters):
    rows = find(Asked(user.pk, text, Mode.TEXT, 50, Filters(**filters)))
    return {row["title"] or row["id"] for row in rows}


def history(user, original, **fields):
    return PromptHistory.objects.create(
        user=user, original=original, enhanced="Improved", intent="writing", confidence=1, **fields
    )


def test_a_saved_prompt_is_a_document_from_when_it_is_written_until_it_goes(alice, bob):
    prompt = saved(alice, "Letter", "Dear aunt", description="For birthdays", tags=["family"])
    row = document(prompt)
    assert (row.kind, row.owner_id, row.title, row.tags) == ("saved", alice.pk, "Letter", ["family"])
    assert row.body == "For birthdays\nDear aunt"
    assert (row.saved_id, row.created_at, row.is_shared) == (prompt.pk, prompt.created_at, False)

    SavedPrompt.objects.update(content="Dear uncle", is_open=True, user=bob)
    row = document(prompt)
    assert (row.body, row.is_shared, row.owner_id) == ("For birthdays\nDear uncle", True, bob.pk)

    prompt.delete()
    assert document(prompt) is None


def test_many_at_once_and_a_history_are_documents_too(alice):
    SavedPrompt.objects.bulk_create(SavedPrompt(user=alice, title=f"Bulk {n}", content="x") for n in range(3))
    past = history(alice, "Why is the sky blue")

    assert found(alice, "bulk") == {"Bulk 0", "Bulk 1", "Bulk 2"}
    assert document(past).body == "Why is the sky blue"
    alice.saved_prompts.all().delete()
    past.delete()
    assert not SearchDocument.objects.exists()


def test_a_template_says_what_its_label_stands_for_or_else_its_latest_version(alice):
    template = a_template(alice, "Version one", label="", description="About cats")
    by = caller_of(alice)
    templates.add_version(template=template, by=by, content=[{"role": "system", "content": "Version two"}])
    assert document(template).body == "About cats\nVersion two"

    templates.move_label(template=template, label="production", number=1, by=by)
    assert document(template).body == "About cats\nVersion one"
    templates.move_label(template=template, label="production", number=2, by=by)
    assert document(template).body == "About cats\nVersion two"
    templates.add_version(template=template, by=by, content="Version three")
    assert document(template).body == "About cats\nVersion two"
    templates.remove_label(template=template, label="production", by=by)
    templates.change_template(template=template, by=by, tags=["cats"], description="")
    assert (document(template).body, document(template).tags) == ("Version three", ["cats"])

    templates.delete_template(template=template, by=by)
    assert document(template) is None


def test_the_migration_makes_documents_of_what_there_was(alice):
    for make in (lambda: saved(alice, "Old"), lambda: a_template(alice, "Old one"), lambda: history(alice, "Old one")):
        make()
    before = list(SearchDocument.objects.order_by("id").values("id", "kind", "title", "body"))
    SearchDocument.objects.all().delete()

    with connection.cursor() as cursor:
        cursor.execute("SELECT prompts_put_saved(s) FROM prompts_savedprompt s")
        cursor.execute("SELECT prompts_put_history(h) FROM prompts_prompthistory h")
        cursor.execute("SELECT prompts_put_template(id) FROM prompts_prompttemplate")

    assert list(SearchDocument.objects.order_by("id").values("id", "kind", "title", "body")) == before
    assert len(before) == 3


def test_everybody_finds_their_own_and_what_is_shared_as_long_as_it_is(alice, bob):
    mine = saved(alice, "Secret plan")
    saved(bob, "Plan of bob", is_shared=True, is_open=True)
    a_template(bob, "A plan", name="plan-shared", is_shared=True)
    a_template(bob, "A plan", name="plan-own")
    past = history(bob, "a plan that nobody else may see")

    assert found(alice, "plan") == {"Secret plan", "Plan of bob", "plan-shared"}
    assert found(bob, "plan") == {"Plan of bob", "plan-shared", "plan-own", past.pk}

    SavedPrompt.objects.exclude(pk=mine.pk).update(is_shared=False, is_open=False)
    PromptTemplate.objects.update(is_shared=False)
    assert found(alice, "plan") == {"Secret plan"}


def test_what_somebody_shares_who_was_switched_off_is_found_as_the_lists_show_it(alice, bob):
    saved(bob, "Plan of bob", is_shared=True, is_open=True)
    a_template(bob, "A plan", name="plan-shared", is_shared=True)
    User.objects.filter(pk=bob.pk).update(is_active=False)

    assert not SavedPrompt.objects.shared_with(alice.pk).exists()
    assert PromptTemplate.objects.visible_to(alice.pk).exists()
    assert found(alice, "plan") == {"plan-shared"}


def test_filters_leave_what_they_name(alice, bob):
    folder = Collection.objects.create(user=alice, name="Folder")
    saved(alice, "In folder", "word", collection=folder, tags=["a", "b"], is_favourite=True)
    old = saved(alice, "Old", "word")
    SavedPrompt.objects.filter(pk=old.pk).update(created_at=F("created_at") - timedelta(days=1))
    saved(bob, "Favourite of bob", "word", is_favourite=True, is_shared=True, is_open=True)
    a_template(alice, "word", name="t")
    past = history(alice, "word")

    assert found(alice, "word", collection=folder.pk) == found(alice, "word", tag="b") == {"In folder"}
    assert found(alice, "word", is_favourite=True) == {"In folder"}
    assert found(alice, "word", is_favourite=False) == {"Old", "Favourite of bob", "t", past.pk}
    assert found(alice, "word", kind="template") == {"t"}
    assert found(alice, "word", intent="writing") == {past.pk}
    assert "Old" not in found(alice, "word", created_after=document(old).created_at)


def test_words_are_found_in_any_language_in_tags_and_by_english_stems(alice):
    saved(alice, "one", "<example>Running invoices, ERR-4711 for Übergröße</example> {{ customer }}")

    for text in ("invoice run", "<example>", "example", "err-4711", "übergröße", "customer", '"running invoices"'):
        assert found(alice, text) == {"one"}, text
    for text in ("invoice -run", '"invoices running"', "größe", "&|!()", "the", "nothing or nowhere"):
        assert found(alice, text) == set(), text


def test_a_text_as_long_as_may_be_is_a_document(alice):
    long = " ".join(f"{number:06x}\N{PILE OF POO}" for number in range(140_000))
    assert len(document(saved(alice, "Long", long[:1_000_000])).body) == 50_000


# Vectors ---------------------------------------------------------------------------------------------------------


def test_a_new_document_waits_for_a_vector_and_another_text_for_another(alice, settings):
    early = saved(alice, "Early")
    model = vectors.active_model()
    late = saved(alice, "Late")
    rows = DocumentEmbedding.objects.filter(model=model)
    assert set(rows.waiting().values_list("document", flat=True)) == {early.pk, late.pk}
    assert vectors.active_model() == model

    rows.update(embedding=[1.0] * 512)
    SavedPrompt.objects.filter(pk=late.pk).update(is_favourite=True, tags=["x"])
    assert not rows.waiting().exists()
    SavedPrompt.objects.filter(pk=late.pk).update(content="Other")
    assert list(rows.waiting().values_list("document", flat=True)) == [late.pk]

    late.delete()
    assert list(rows.values_list("document", flat=True)) == [early.pk]
    EmbeddingModel.objects.all().delete()
    assert not DocumentEmbedding.objects.exists()
