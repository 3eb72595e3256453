"""/mcp as clients meet it that do not behave: versions, headers, bodies, and whose prompts anybody sees."""

import pytest
import time_machine

from accounts.caller import Caller
from accounts.models import ChannelIdentity
from accounts.tests.credentials import api_key
from prompts import templates
from prompts.mcp import library
from prompts.mcp.protocol import CAPABILITIES_KEY, VERSION_KEY
from prompts.models import PromptLabel, PromptVersion, SavedPrompt
from prompts.tests.factories import a_template
from quotas.tests.factories import PlanFactory, SubscriptionFactory

ZEROS = "00000000-0000-0000-0000-000000000000"
NEW, OLD, OLDEST = "2026-07-28", "2025-11-25", "2025-03-26"

pytestmark = pytest.mark.django_db


def message(method, number=1, **params):
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": params}


@pytest.fixture
def send(api):
    """Sends one body, as a client of the previous version does unless something else is said."""

    def send_body(body, who=None, version=OLD, **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if version:
            headers["MCP-Protocol-Version"] = version
        return api(who).post("/mcp", body, headers=headers)

    return send_body


@pytest.fixture
def ask(send):
    """The result of a method, or its error as `(number, code)`."""

    def ask_for(method, who, **params):
        answer = send(message(method, **params), who).json()
        if "error" in answer:
            return answer["error"]["code"], answer["error"]["data"]["code"]
        return answer["result"]

    return ask_for


@pytest.fixture
def names(ask):
    return lambda who: [prompt["name"] for prompt in ask("prompts/list", who)["prompts"]]


def text_of(result):
    return "\n".join(found["content"]["text"] for found in result["messages"])


# Versions -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "agreed"), [(OLD, OLD), ("2025-06-18", "2025-06-18"), (OLDEST, OLDEST), ("1999-01-01", OLD), (NEW, OLD)]
)
def test_the_handshake_agrees_on_a_version(send, alice, wanted, agreed):
    answer = send(message("initialize", protocolVersion=wanted, capabilities={}, clientInfo={}), alice, version=None)

    result = answer.json()["result"]
    assert result["protocolVersion"] == agreed
    assert result["capabilities"] == {"prompts": {}, "completions": {}}
    assert "Mcp-Session-Id" not in answer.headers
    told = send({"jsonrpc": "2.0", "method": "notifications/initialized"}, alice, version=agreed)
    assert (told.status_code, told.content) == (202, b"")
    assert send(message("ping"), alice, version=agreed).json()["result"] == {}


def stateless(method="prompts/list", version=NEW, meta=None, **params):
    meta = {VERSION_KEY: version, CAPABILITIES_KEY: {}} if meta is None else meta
    return message(method, _meta=meta, **params)


def test_a_request_that_stands_alone(send, alice):
    found = send(stateless("server/discover"), alice, NEW, Mcp_Method="server/discover").json()["result"]
    assert NEW in found["supportedVersions"]
    assert (found["resultType"], found["cacheScope"]) == ("complete", "private")
    assert found["_meta"]["io.modelcontextprotocol/serverInfo"]["name"] == "mainstay"

    listed = send(stateless(), alice, NEW, Mcp_Method="prompts/list").json()["result"]
    assert (listed["prompts"], listed["ttlMs"]) == ([], 0)


GET = stateless("prompts/get", name="Grüße")
ENCODED = "=?base64?R3LDvMOfZQ==?="


CONTRADICTIONS = [
    (stateless(), NEW, {}, 400, -32020),
    (stateless(), NEW, {"Mcp_Method": "prompts/get"}, 400, -32020),
    (stateless(), None, {"Mcp_Method": "prompts/list"}, 400, -32020),
    (stateless(), OLD, {"Mcp_Method": "prompts/list"}, 400, -32020),
    (stateless(version=OLD), NEW, {"Mcp_Method": "prompts/list"}, 400, -32020),
    (stateless(version=7), NEW, {"Mcp_Method": "prompts/list"}, 400, -32020),
    (stateless(version="2099-01-01"), "2099-01-01", {"Mcp_Method": "prompts/list"}, 400, -32022),
    (message("prompts/list"), "2099-01-01", {}, 400, -32022),
    ({"jsonrpc": "2.0", "method": "notifications/cancelled"}, "x", {}, 400, -32022),
    (message("prompts/list"), NEW, {"Mcp_Method": "prompts/list"}, 400, -32602),
    (stateless(meta={VERSION_KEY: NEW}), NEW, {"Mcp_Method": "prompts/list"}, 400, -32602),
    (stateless(meta={VERSION_KEY: NEW, CAPABILITIES_KEY: 1}), NEW, {"Mcp_Method": "prompts/list"}, 400, -32602),
    (GET, NEW, {"Mcp_Method": "prompts/get"}, 400, -32020),
    (GET, NEW, {"Mcp_Method": "prompts/get", "Mcp_Name": "Other"}, 400, -32020),
    (GET, NEW, {"Mcp_Method": "prompts/get", "Mcp_Name": "=?base64?!?="}, 400, -32020),
    # The headers are right, and there is no such prompt.
    (GET, NEW, {"Mcp_Method": "prompts/get", "Mcp_Name": ENCODED}, 400, -32602),
    (stateless("ping"), NEW, {"Mcp_Method": "ping"}, 404, -32601),
    (stateless("initialize"), NEW, {"Mcp_Method": "initialize"}, 404, -32601),
    (stateless("subscriptions/listen"), NEW, {"Mcp_Method": "subscriptions/listen"}, 404, -32601),
    (message("server/discover"), OLD, {}, 200, -32601),
    (message("tools/list"), OLD, {}, 200, -32601),
    (message("resources/list"), None, {}, 200, -32601),
]


def test_versions_and_headers_that_do_not_fit(send, alice):
    for body, version, headers, status, number in CONTRADICTIONS:
        answer = send(body, alice, version, **headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, number), (body, version, headers)
        assert answer.json()["id"] == body.get("id")
        if number == -32022:
            assert NEW in answer.json()["error"]["data"]["supported"]


# Bodies ---------------------------------------------------------------------------------------------------------------


NONSENSE = [
    (b" ", 400, -32700),
    (b"{", 400, -32700),
    (b'{"a": "\xff"}', 400, -32700),
    (b'{"jsonrpc": "2.0", "id": 1, "method": "a\\u0000b"}', 400, -32600),
    (b"[" * 50 + b"]" * 50, 400, -32600),
    (b"null", 400, -32600),
    ({}, 400, -32600),
    ([], 400, -32600),
    ([message("ping")], 400, -32600),
    ({"jsonrpc": "1.0", "id": 1, "method": "ping"}, 400, -32600),
    ({"jsonrpc": "2.0", "id": None, "method": "ping"}, 400, -32600),
    ({"jsonrpc": "2.0", "id": 1.5, "method": "ping"}, 400, -32600),
    ({"jsonrpc": "2.0", "id": True, "method": "ping"}, 400, -32600),
    ({"jsonrpc": "2.0", "id": 1, "method": 7}, 400, -32600),
    ({"jsonrpc": "2.0", "id": 1, "method": "ping", "params": []}, 400, -32600),
    # Nothing was asked that this could answer.
    ({"jsonrpc": "2.0", "id": 1, "result": {}}, 400, -32600),
    (message("initialize"), 200, -32602),
    (message("prompts/list", cursor=7), 200, -32602),
    (message("prompts/list", cursor="not/ours"), 200, -32602),
    (message("prompts/get"), 200, -32602),
    (message("prompts/get", name="a", arguments=[]), 200, -32602),
    (message("prompts/get", name="a", arguments={"a": 1}), 200, -32602),
    (message("completion/complete", ref={"type": "ref/resource", "uri": "x"}, argument={}), 200, -32602),
    (message("completion/complete", ref={"type": "ref/prompt", "name": "x"}), 200, -32602),
]


def test_bodies_that_make_no_sense(send, alice):
    for body, status, number in NONSENSE:
        answer = send(body, alice)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, number), body
        assert answer.json()["jsonrpc"] == "2.0"


def test_a_body_that_is_too_large(send, alice, settings):
    settings.MAX_BODY_BYTES = settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    answer = send(b'"' + b"x" * 1000 + b'"', alice)

    assert (answer.status_code, answer.json()["error"]["data"]["code"]) == (413, "request_too_large")


def test_a_batch_is_answered_where_the_version_has_batches(send, alice):
    notification = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    answer = send([message("ping", 1), notification, message("nothing", "two"), 7], alice, version=None)

    assert [(one["id"], one.get("error", {}).get("code")) for one in answer.json()] == [
        (1, None),
        ("two", -32601),
        (None, -32600),
    ]
    assert send([notification], alice, OLDEST).status_code == 202
    for refused in ([message("ping")] * 21, [message("initialize", protocolVersion=OLD)]):
        assert send(refused, alice, OLDEST).status_code == 400


# HTTP -----------------------------------------------------------------------------------------------------------------


SURROUNDINGS = [
    ({"Accept": "application/json, text/event-stream"}, 200),
    ({"Accept": "application/*"}, 200),
    ({"Accept": "text/event-stream"}, 406),
    ({"Origin": "http://testserver"}, 200),
    ({"Origin": "https://allowed.example"}, 200),
    ({"Origin": "https://evil.example"}, 403),
    ({"Origin": "null"}, 403),
    ({"Origin": "http://rebound.example", "Host": "rebound.example"}, 403),
    ({"Content-Type": "text/plain"}, 415),
    ({"Content-Type": "application/json; charset=utf-8"}, 200),
]


def test_what_surrounds_a_body(api, alice, settings):
    settings.CORS_ALLOWED_ORIGINS = ["https://allowed.example"]
    client = api(alice)
    for headers, status in SURROUNDINGS:
        kind = headers.get("Content-Type", "application/json")
        answer = client.post("/mcp/", message("ping"), kind, headers=headers)
        assert answer.status_code == status, headers
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.json()["jsonrpc"] == "2.0"


def test_there_is_no_stream_and_no_session(api, alice):
    for method in ("GET", "DELETE", "PUT"):
        answer = api(alice).generic(method, "/mcp", headers={"Accept": "text/event-stream"})
        assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")


@time_machine.travel("2030-01-01T12:00Z", tick=False)
def test_rate_limits_count_it_among_prompts(send, alice):
    SubscriptionFactory(user=alice, plan=PlanFactory(rate_limits={"prompts": {"requests": {"minute": 1}}}))
    assert send(message("ping"), alice).headers["x-ratelimit-remaining-requests"] == "0"

    answer = send(message("ping"), alice)

    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.json()["error"]["data"]["code"] == "rate_limit_exceeded"


# Whose ----------------------------------------------------------------------------------------------------------------


def test_nobody_and_keys_for_something_else_are_refused(send, alice):
    for who, status, code in (
        (None, 401, "missing_credentials"),
        ("msk_0_0", 401, "invalid_api_key"),
        (api_key(alice, scopes=["inference", "read"]), 403, "scope_required"),
    ):
        answer = send(message("prompts/list"), who)
        assert (answer.status_code, answer.json()["error"]["data"]["code"]) == (status, code)
        assert ("WWW-Authenticate" in answer.headers) == (status == 401)
    headers = {"X_API_Key": api_key(alice, scopes=["prompts"])}
    assert send(message("prompts/list"), **headers).status_code == 200


def test_everybody_sees_their_own_and_what_is_shared(ask, names, alice, bob, olga):
    a_template(alice, "Alice's", name="common")
    a_template(olga, "Olga's", name="common", description="Olga's", is_shared=True)
    a_template(olga, "Olga's", name="olgas")
    draft = a_template(alice, "Draft", name="draft", label="staging")
    saved = SavedPrompt.objects.create(user=alice, title="Mine", content="Hello {{ who }}")

    assert names(alice) == ["common", f"saved/{saved.pk}"]
    assert "description" not in ask("prompts/list", alice)["prompts"][0]
    assert names(bob) == ["common"]
    assert text_of(ask("prompts/get", alice, name="common")) == "Alice's"
    assert text_of(ask("prompts/get", bob, name="common")) == "Olga's"
    for name in ("draft@staging", "draft@1"):
        assert text_of(ask("prompts/get", alice, name=name)) == "Draft"
        assert ask("prompts/get", bob, name=name) == (-32602, "template_not_found")
    assert ask("prompts/get", alice, name="draft") == (-32602, "label_not_found")
    assert ask("prompts/get", alice, name="draft@9") == (-32602, "version_not_found")
    for name in (f"saved/{saved.pk}", f"saved/{ZEROS}", "saved/x", "Common", "common@", ""):
        assert ask("prompts/get", bob, name=name, arguments={"who": "Bob"}) == (-32602, "prompt_not_found")
        ref = {"type": "ref/prompt", "name": name}
        found = ask("completion/complete", bob, ref=ref, argument={"name": "who", "value": ""})
        assert found == (-32602, "prompt_not_found")
    # An own template goes before a shared one as soon as it has the label.
    a_template(bob, "Bob's", name="common", label="staging")
    assert names(bob) == ["common"]
    assert text_of(ask("prompts/get", bob, name="common")) == "Olga's"
    templates.delete_template(template=draft, by=Caller(user_id=alice.pk))
    assert ask("prompts/get", alice, name="draft@1") == (-32602, "template_not_found")


def test_pages_are_asked_for_by_cursors_that_nobody_makes_up(ask, alice, bob, monkeypatch):
    monkeypatch.setattr(library, "PAGE", 2)
    made = [a_template(alice, name=name).name for name in ("one", "three", "two")]
    saved = [SavedPrompt.objects.create(user=alice, title="Mine", content="x") for _ in range(2)]
    found, cursor = [], {}
    while True:
        page = ask("prompts/list", alice, **cursor)
        found += [prompt["name"] for prompt in page["prompts"]]
        if "nextCursor" not in page:
            break
        cursor = {"cursor": page["nextCursor"]}

    assert found == [*made, *(f"saved/{prompt.pk}" for prompt in reversed(saved))]
    assert ask("prompts/list", bob, **cursor) == (-32602, "invalid_cursor")
    for made_up in ("one", f"saved/{ZEROS}", "a:b:c", cursor["cursor"][:-1], "é", " "):
        assert ask("prompts/list", alice, cursor=made_up) == (-32602, "invalid_cursor"), made_up


def test_a_key_that_acts_for_somebody_sees_what_that_person_sees(send, alice, olga):
    ChannelIdentity.objects.create(user=alice, channel_type="discord", channel_user_id="1")
    SavedPrompt.objects.create(user=alice, title="Alice's", content="x")
    SavedPrompt.objects.create(user=olga, title="Olga's", content="x")
    bot = api_key(olga, scopes=["act-as", "prompts"])

    answer = send(message("prompts/list"), bot, X_On_Behalf_Of="discord:1")

    assert [prompt["title"] for prompt in answer.json()["result"]["prompts"]] == ["Alice's"]


# What is in them ------------------------------------------------------------------------------------------------------

TYPED = [
    {"name": "whole", "type": "integer"},
    {"name": "number", "type": "number"},
    {"name": "yes", "type": "boolean"},
    {"name": "some", "type": "list"},
    {"name": "one", "type": "enum", "choices": ["a", "b"]},
]
VALUES = {"whole": "7", "number": "1.5", "yes": "true", "some": '["x", "y"]', "one": "a"}


def test_texts_are_read_as_the_types_of_variables_want(ask, alice):
    a_template(alice, "{{whole}} {{number}} {{yes}} {{some}} {{one}}", variables=TYPED, name="typed")

    def said(**changed):
        return ask("prompts/get", alice, name="typed", arguments=VALUES | changed)

    assert text_of(said()) == "7 1.5 true x, y a"
    assert text_of(said(some="x, y")) == "7 1.5 true x, y a"
    for wrong in ({"whole": "1.5"}, {"number": "NaN"}, {"yes": "maybe"}, {"some": "[1]"}, {"one": "c"}, {"whole": ""}):
        assert said(**wrong) == (-32602, "invalid_type"), wrong

    def completed(name, begun):
        reference = {"type": "ref/prompt", "name": "typed"}
        found = ask("completion/complete", alice, ref=reference, argument={"name": name, "value": begun})
        return found["completion"]["values"] if isinstance(found, dict) else found

    assert [completed("one", ""), completed("yes", "T"), completed("whole", "1")] == [["a", "b"], ["true"], []]
    assert completed("none", "") == (-32602, "unknown_variable")


def test_arguments_are_also_those_of_what_is_included(ask, alice):
    a_template(alice, "Dear {{ who }}, {{ what }}", name="inner")
    a_template(alice, "{{> inner }} {{ what }}", variables=[{"name": "what", "default": "hello"}], name="outer")

    listed = ask("prompts/list", alice)["prompts"]

    assert {prompt["name"]: [(one["name"], one["required"]) for one in prompt["arguments"]] for prompt in listed} == {
        "inner": [("who", True), ("what", True)],
        "outer": [("what", False), ("who", True)],
    }
    assert text_of(ask("prompts/get", alice, name="outer", arguments={"who": "Ada"})) == "Dear Ada, hello hello"


def test_a_template_that_cannot_be_rendered_hides_no_other(names, alice):
    """Services refuse to make such a one; a row that got there in another way must not break the list."""
    a_template(alice, name="fine")
    loop = a_template(alice, name="loop", label="")
    version = PromptVersion.objects.create(
        template=loop, number=2, content="{{> loop }}", includes=["loop@production"], author_id=alice.pk
    )
    PromptLabel.objects.create(template=loop, name="production", version=version)

    assert names(alice) == ["fine"]


@pytest.mark.parametrize(
    ("content", "arguments", "said"),
    [
        ("Hello {{ who }}, {{who}}!", {"who": "{{ who }} \u202e"}, "Hello {{ who }} \u202e, {{ who }} \u202e!"),
        ("\\{{ who }}", {}, "{{ who }}"),
        # Not a text of ours: it is sent as it is.
        ("{% if x %}{{ x.__class__ }}", {}, "{% if x %}{{ x.__class__ }}"),
        ("{{> other }} {{ who }}", {}, "{{> other }} {{ who }}"),
        ("{{ who }}" + "x" * 64 * 1024, {}, "{{ who }}" + "x" * 64 * 1024),
        ("".join(f"{{{{ v{n} }}}}" for n in range(101)), {}, "".join(f"{{{{ v{n} }}}}" for n in range(101))),
    ],
    ids=["values", "escaped", "another language", "an include", "long", "many"],
)
def test_saved_prompts(ask, alice, content, arguments, said):
    SavedPrompt.objects.create(user=alice, title="Title", content=content)

    listed = ask("prompts/list", alice)["prompts"][0]

    assert [argument["name"] for argument in listed["arguments"]] == list(arguments)
    assert text_of(ask("prompts/get", alice, name=listed["name"], arguments=arguments)) == said
    if arguments:
        assert ask("prompts/get", alice, name=listed["name"]) == (-32602, "missing_variable")
    else:
        refused = ask("prompts/get", alice, name=listed["name"], arguments={"who": "x"})
        assert refused == (-32602, "unknown_variable")


def test_a_saved_prompt_does_not_grow_without_end(ask, alice):
    saved = SavedPrompt.objects.create(user=alice, title="Title", content="{{ who }}" * 7000)

    refused = ask("prompts/get", alice, name=f"saved/{saved.pk}", arguments={"who": "x" * 1000})

    assert refused == (-32602, "too_large")
