"""Saved prompts and templates in the admin: operators read and find them, move labels and share."""

from django.core.files.uploadedfile import SimpleUploadedFile

from accounts.caller import Caller
from accounts.models import AuditEvent
from inference.models import Request
from prompts import collections, sharing, templates
from prompts.models import Collection, PromptTemplate, PromptUsage, SavedPrompt, ShareLink
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


def test_folders_are_shown_as_a_tree_and_links_are_revoked(client, olga, alice):
    client.force_login(olga)
    by = Caller(user_id=alice.pk)
    work = collections.create_collection(by=by, name="<b>Work</b>", is_shared=True)
    mails = collections.create_collection(by=by, name="a/b", parent=work.pk)
    prompt = SavedPrompt.objects.create(user=alice, title="<i>Mail</i>", content="x", collection=mails, is_open=True)
    link, token = sharing.create_link(target=mails, by=by)

    html = client.get(page(mails)).content.decode()
    assert '<span class="folder" data-depth="1"><strong>a/b</strong></span>' in html
    assert "&lt;b&gt;Work&lt;/b&gt;" in html
    assert "&lt;i&gt;Mail&lt;/i&gt;" in html
    assert "everybody, through a folder" in html
    assert "&lt;b&gt;Work&lt;/b&gt; / a/b" in client.get(page(prompt)).content.decode()
    for search in (token, f"https://x/api/v1/prompts/shared/{token}", f"shr_{link.prefix}_…", alice.email):
        found = client.get(page(ShareLink, "changelist"), {"q": search, "state": "works"}).context["cl"].result_list
        assert list(found) == [link]
    assert token not in client.get(page(link)).content.decode()
    assert messages(act(client, link, "revoke"), client) == [f"{link} is revoked."]
    assert client.post(page(link, "revoke"), {"_form_submitted": "on"}).status_code == 403
    for state in ("works", "expired"):
        assert not client.get(page(ShareLink, "changelist"), {"state": state}).context["cl"].result_list
    assert AuditEvent.objects.filter(actor_id=olga.pk, action="share_link.revoked").exists()


def test_a_file_is_brought_in_for_a_user(client, olga, alice):
    client.force_login(olga)
    address = page(SavedPrompt, "import_file")

    def send(text, **fields):
        file = SimpleUploadedFile("list.csv", text.encode())
        return client.post(address, {"user": str(alice.pk), "file": file, "into": "Awesome", **fields})

    refused = send("act,prompt\nA,\nB,text\n")
    html = refused.content.decode()
    assert "Nothing was imported: 1 row is broken." in html
    assert "content: This is required." in html
    assert not Collection.objects.exists()
    assert "Left out: 1 that had errors." in send("act,prompt\nA,\nB,text\n", good_rows="on").content.decode()
    done = send("act,prompt\nB,text\nC,text\n")
    assert messages(done, client) == ["Imported: 1 new, 1 there already."]
    assert done["Location"].endswith(f"?user__id__exact={alice.pk}")
    assert set(SavedPrompt.objects.values_list("title", "collection__name")) == {("B", "Awesome"), ("C", "Awesome")}
    for text in ("a,b\n1,2\n", "x" * (5 * 1024 * 1024 + 1)):
        assert send(text).context["form"].errors["file"]
    event = AuditEvent.objects.filter(action="saved_prompt.imported").latest("id")
    assert (event.actor_id, event.metadata["user"]) == (olga.pk, str(alice.pk))
