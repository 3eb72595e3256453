"""Saved prompts in the admin: operators read and find them."""

from prompts.models import SavedPrompt
from tests.admin import page


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
