"""Saved prompts and templates in the admin: operators read and find them, move labels and share."""

from accounts.caller import Caller
from accounts.models import AuditEvent
from inference.models import Request
from prompts import templates
from prompts.models import PromptTemplate, PromptUsage, SavedPrompt
from prompts.tests.factories import a_template
from tests.admin import act, messages, page


def test_saved_prompts_are_read_and_found(client, olga, alice, bob):
    client.force_login(olga)
    mine = SavedPrompt.objects.create(
        user=alice, title="Summary", content="Three\n<b>sentences</b>.", is_favourite=True
    )
    SavedPrompt.objects.create(user=bob, title="Poem", content="Four lines.")

    def listed(**query):
        return {row.title for row in client.get(page(SavedPrompt, "changelist"), query).context["cl"].result_list}

    assert "Three<br>&lt;b&gt;sentences&lt;/b&gt;." in client.get(page(mine)).content.decode()
    assert listed() == {"Summary", "Poem"}
    assert listed(q="alice@") == listed(q="sentences") == listed(is_favourite__exact="1") == {"Summary"}
    assert client.post(page(mine), {"title": "Mine now"}).status_code == 403


def test_a_template_shows_its_versions_what_changed_and_what_they_cost(client, olga, alice):
    client.force_login(olga)
    template = a_template(alice, "Hello <b>{{ who }}</b>\nBye", name="greeting")
    version = templates.add_version(
        template=template, by=Caller(user_id=alice.pk), content="Hi <b>{{ who }}</b>\nBye", commit_message="Shorter"
    )
    used = {"day": "2026-01-01", "requests": 4, "errors": 1, "input_tokens": 60, "output_tokens": 40}
    PromptUsage.objects.create(version=version, **used, cost=80_000, processing_time=1000)
    assert "version-charts" not in client.get(page(template)).content.decode()
    PromptUsage.objects.create(version=template.versions.get(number=1), **used, cost=40_000, processing_time=4000)

    answer = client.get(page(template))
    html, charts = answer.content.decode(), answer.context["charts"]

    for shown in ("Shorter", "25.0 %", "$0.08", "$0.02", "250 ms", f"prompt_version_id__exact={version.pk}"):
        assert shown in html
    assert [(chart["title"], [(bar["width"], bar["text"]) for bar in chart["bars"]]) for chart in charts] == [
        ("Calls", [("100.0", "4"), ("100.0", "4")]),
        ("Failed", [("100.0", "25.0 %"), ("100.0", "25.0 %")]),
        ("Tokens of a call", [("100.0", "25"), ("100.0", "25")]),
        ("Cost of a call", [("100.0", "$0.02"), ("50.0", "$0.01")]),
        ("Time of a call", [("25.0", "250 ms"), ("100.0", "1,000 ms")]),
    ]
    assert '<span data-kind="removed">-Hello &lt;b&gt;{{ who }}&lt;/b&gt;' in html
    assert '<span data-kind="added">+Hi &lt;b&gt;{{ who }}&lt;/b&gt;' in html
    assert "Nothing is different." in client.get(page(template), {"from": "2", "to": "2"}).content.decode()
    for senseless in ({"from": "x", "to": "-1"}, {"from": "9", "to": "99999999999"}):
        assert client.get(page(template), senseless).status_code == 200
    found = client.get(page(PromptTemplate, "changelist"), {"q": str(version.pk)}).context["cl"].result_list
    assert list(found) == [template]


def test_operators_move_labels_and_share(client, olga, alice):
    client.force_login(olga)
    template = a_template(alice, name="greeting")
    templates.add_version(template=template, by=Caller(user_id=alice.pk), content="Hi")

    done = act(client, template, "move_label", label="production", number="2")
    assert messages(done, client) == ["production stands for version 2."]
    assert template.labels.get().version.number == 2
    refused = act(client, template, "move_label", label="production", number="7")
    assert messages(refused, client) == ["The template has no such version."]
    for who, is_shared in (("everybody", True), ("owner", False)):
        act(client, template, "share", who=who)
        template.refresh_from_db()
        assert template.is_shared == is_shared
    assert AuditEvent.objects.filter(actor_id=olga.pk, action__startswith="prompt_").count() == 3


def test_a_request_says_which_version_ran(client, olga, alice):
    client.force_login(olga)
    version = a_template(alice, name="greeting").versions.get()
    fields = {"user": alice, "request_type": "llm", "model": "m", "prompt_version_id": version.pk}
    named = Request.objects.create(**fields, request_data={"prompt": {"name": "greeting", "version": 1}})
    erased = Request.objects.create(**fields)

    assert f"greeting, version 1 ({version.pk})" in client.get(page(named)).content.decode()
    assert str(version.pk) in client.get(page(erased)).content.decode()
