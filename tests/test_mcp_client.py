"""The official MCP client, unmodified, against the real web server, in both ways to connect."""

import asyncio

import httpx2
import mcp
import pytest
from mcp.client.streamable_http import streamable_http_client
from mcp.types import LATEST_PROTOCOL_VERSION

from accounts import services as accounts
from accounts.caller import Caller
from prompts import templates
from prompts.models import SavedPrompt
from prompts.tests.factories import a_template

# How a client connects, and the version that it speaks then.
MODES = {"auto": LATEST_PROTOCOL_VERSION, "legacy": "2025-11-25"}
ANSWER = [
    {"role": "system", "content": "You are {{ tone }}."},
    {"role": "user", "content": "{{ question }} {{ times }}"},
]
VARIABLES = [
    {"name": "tone", "type": "enum", "choices": ["kind", "curt"], "default": "kind"},
    {"name": "question", "description": "What to answer"},
    {"name": "times", "type": "integer", "default": 1},
]


@pytest.fixture
def connected(web, account):
    """Runs what a client does, once it is connected."""

    def run(work, mode="auto", **headers):
        async def connect():
            headers.setdefault("Authorization", f"Bearer {account.key}")
            async with httpx2.AsyncClient(headers=headers) as http:
                transport = streamable_http_client(f"{web.url}/mcp", http_client=http)
                async with mcp.Client(transport, mode=mode, cache=None) as client:
                    return await work(client)

        return asyncio.run(connect())

    return run


@pytest.mark.parametrize("mode", MODES)
def test_prompts_are_listed_found_and_filled_in(connected, account, mode):
    a_template(account.user, ANSWER, variables=VARIABLES, name="support-answer", description="Answers")
    saved = SavedPrompt.objects.create(user=account.user, title="Rhyme", content="A rhyme on {{ topic }}.")

    async def work(client):
        listed = await client.list_prompts()
        answer = await client.get_prompt("support-answer", {"question": "Why {{ tone }}?", "times": "3"})
        rhyme = await client.get_prompt(f"saved/{saved.pk}", {"topic": "Übermut"})
        reference = mcp.types.PromptReference(type="ref/prompt", name="support-answer")
        tones = await client.complete(reference, {"name": "tone", "value": "k"})
        return client.session.protocol_version, client.server_capabilities, listed, answer, rhyme, tones

    version, capabilities, listed, answer, rhyme, tones = connected(work, mode)

    assert version == MODES[mode]
    assert (capabilities.tools, capabilities.resources) == (None, None)
    assert capabilities.prompts is not None
    assert [(prompt.name, prompt.title, prompt.description) for prompt in listed.prompts] == [
        ("support-answer", None, "Answers"),
        (f"saved/{saved.pk}", "Rhyme", "Rhyme"),
    ]
    assert [(one.name, one.required, one.description) for one in listed.prompts[0].arguments] == [
        ("tone", False, "(one of kind, curt)"),
        ("question", True, "What to answer"),
        ("times", False, "(a whole number)"),
    ]
    assert [(message.role, message.content.text) for message in answer.messages] == [
        ("user", "You are kind."),
        ("user", "Why {{ tone }}? 3"),
    ]
    assert answer.messages[0].content.meta == {"mainstay/role": "system"}
    assert [(message.role, message.content.text) for message in rhyme.messages] == [("user", "A rhyme on Übermut.")]
    assert tones.completion.values == ["kind"]


@pytest.mark.parametrize("mode", MODES)
def test_refusals_are_the_clients_own_errors(connected, account, mode):
    a_template(account.user, name="greeting")

    async def work(client):
        found = []
        for name, arguments in (("greeting", {}), ("greeting", {"who": "A", "x": "B"}), ("nothing", {})):
            with pytest.raises(mcp.MCPError) as refusal:
                await client.get_prompt(name, arguments)
            found.append((refusal.value.code, refusal.value.error.data["code"], refusal.value.error.data["param"]))
        with pytest.raises(mcp.MCPError) as refusal:
            await client.list_tools()
        return [*found, refusal.value.code]

    assert connected(work, mode) == [
        (-32602, "missing_variable", "arguments.who"),
        (-32602, "unknown_variable", "arguments.x"),
        (-32602, "template_not_found", "name"),
        -32601,
    ]


def test_a_moved_label_and_a_revoked_key_are_seen_by_the_next_request(connected, account):
    template = a_template(account.user, "Hello", name="greeting")
    by = Caller(user_id=account.user.pk)
    templates.add_version(template=template, by=by, content="Goodbye")

    async def work(client):
        said = [(await client.get_prompt("greeting")).messages[0].content.text]
        await asyncio.to_thread(templates.move_label, template=template, label="production", number=2, by=by)
        said.append((await client.get_prompt("greeting")).messages[0].content.text)
        key = await account.user.api_keys.aget()
        await asyncio.to_thread(accounts.revoke_api_key, key_id=key.pk, by=account.user)
        with pytest.raises(mcp.MCPError) as refusal:
            await client.get_prompt("greeting")
        return [*said, refusal.value.error.data["type"]]

    assert connected(work) == ["Hello", "Goodbye", "authentication_error"]


def test_a_list_of_several_pages_is_whole(connected, account):
    SavedPrompt.objects.bulk_create(SavedPrompt(user=account.user, title=str(n), content="x") for n in range(120))
    for name in ("b", "a"):
        a_template(account.user, name=name)

    async def work(client):
        names, cursor = [], None
        while True:
            page = await client.list_prompts(cursor=cursor)
            names += [prompt.title or prompt.name for prompt in page.prompts]
            cursor = page.next_cursor
            if cursor is None:
                return names

    assert connected(work) == ["a", "b", *map(str, reversed(range(120)))]
