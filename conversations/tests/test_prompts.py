"""Chat calls that name a prompt template instead of messages."""

import pytest

from accounts.caller import Caller
from accounts.exceptions import DomainError
from accounts.tests.credentials import api_key
from conversations import services
from conversations.models import Conversation
from inference.models import Model, Provider, Request
from prompts import templates, usage
from prompts.models import PromptTemplate, PromptUsage
from prompts.tests.factories import a_template
from quotas.models import Quota
from tests.shape import error_of

CONTENT = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Greet {{ who }}."}]


@pytest.fixture
def model(db):
    provider = Provider.objects.create(name="provider", base_url="http://127.0.0.1:9/v1")
    return Model.objects.create(name="m", upstream_name="m", provider=provider)


def open_chat(user, prompt, *, caller=None, **more):
    caller = caller or Caller(user_id=user.pk)
    return services.open_chat(caller=caller, payload={"model": "m", "prompt": prompt, **more})


def test_the_rendered_messages_are_sent_and_the_request_knows_its_version(api, alice, model):
    template = a_template(alice, CONTENT, name="greeting")
    version = template.versions.get()

    turn = open_chat(alice, {"name": "greeting", "variables": {"who": "Ada"}}, temperature=0, messages=[])

    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Greet Ada."}]
    assert turn.call.payload == {"model": "m", "temperature": 0, "messages": messages}
    request = Request.objects.get()
    assert request.prompt_version_id == version.pk
    assert request.request_data["messages"] == messages
    assert request.request_data["prompt"] == {"name": "greeting", "version": 1, "label": "production"}
    shown = api(alice).get("/api/v1/requests", {"prompt_version_id": str(version.pk)}).json()["results"]
    assert [row["prompt_version_id"] for row in shown] == [str(version.pk)]


def test_a_conversation_keeps_what_was_rendered(alice, model):
    a_template(alice, CONTENT, name="greeting")
    talk = Conversation.objects.create(user=alice)

    open_chat(alice, {"name": "greeting", "variables": {"who": "Ada"}}, metadata={"conversation_id": str(talk.pk)})

    assert talk.messages.get().content == "Greet Ada."


def test_who_acts_for_somebody_uses_their_own_templates(alice, bob, model):
    a_template(alice, "The program's.", name="greeting")
    a_template(bob, "The person's.", name="greeting")

    turn = open_chat(bob, {"name": "greeting"}, caller=Caller(user_id=bob.pk, acted_by=alice.pk))

    assert turn.call.payload["messages"][0]["content"] == "The program's."
    assert Request.objects.get().user_id == bob.pk


def test_render_shows_what_such_a_call_would_send(api, olga, bob):
    a_template(olga, "The program's.", name="greeting")
    a_template(bob, "The person's.", name="greeting")
    bot, person = api(api_key(olga, scopes=["act-as", "prompts"])), {"X-On-Behalf-Of": str(bob.pk)}

    rendered = bot.post("/api/v1/prompts/templates/greeting/render", headers=person)

    assert rendered.json()["text"] == "The program's."


@pytest.mark.parametrize(
    ("prompt", "more", "code", "param"),
    [
        ("greeting", {}, "invalid_type", "prompt"),
        ({}, {}, "required", "prompt.name"),
        ({"name": "greeting", "label": 7}, {}, "invalid_type", "prompt.label"),
        ({"name": "greeting", "variables": {"who": None}}, {}, "missing_variable", "prompt.variables.who"),
        ({"name": "greeting"}, {}, "missing_variable", "prompt.variables.who"),
        ({"name": "greeting", "variables": {"who": 1}}, {}, "invalid_type", "prompt.variables.who"),
        ({"name": "nothing"}, {}, "template_not_found", "prompt.name"),
        ({"name": "greeting", "label": "nowhere"}, {}, "label_not_found", "prompt.label"),
        ({"name": "greeting", "version": 2}, {}, "version_not_found", "prompt.version"),
        ({"name": "greeting"}, {"messages": [{"role": "user", "content": "x"}]}, "prompt_and_messages", "prompt"),
    ],
)
def test_what_cannot_be_rendered_costs_nothing(alice, model, prompt, more, code, param):
    a_template(alice, CONTENT, name="greeting")

    with pytest.raises(DomainError) as refusal:
        open_chat(alice, prompt, **more)

    assert (refusal.value.code, refusal.value.param) == (code, param)
    assert not Request.objects.exists()
    assert not Quota.objects.filter(held__gt=0).exists()


@pytest.mark.parametrize(
    ("asked", "code", "param"),
    [
        ({"label": "production@5"}, "invalid_label", "label"),
        ({"label": "1"}, "invalid_label", "label"),
        ({"label": "01"}, "invalid_label", "label"),
        ({"label": 7}, "invalid_type", "label"),
        ({"label": "Production\n"}, "invalid_label", "label"),
        ({"lable": "production"}, "unknown_field", "lable"),
        ({"version": "1"}, "invalid_type", "version"),
        ({"version": 1.0}, "invalid_type", "version"),
        ({"version": True}, "invalid_type", "version"),
        ({"version": 0}, "invalid_type", "version"),
        ({"version": 10**9}, "invalid_type", "version"),
        ({"version": 1, "label": "production"}, "invalid_value", "version"),
        ({"variables": []}, "invalid_type", "variables"),
        ({"variables": False}, "invalid_type", "variables"),
        ({"variables": {"who": 10**30}}, "invalid_type", "variables.who"),
        ({"label": "", "version": 1}, "missing_variable", "variables.who"),
        ({"label": None, "version": None, "variables": None}, "missing_variable", "variables.who"),
    ],
)
def test_chat_and_render_read_what_is_asked_in_the_same_way(api, alice, model, asked, code, param):
    a_template(alice, CONTENT, name="greeting")

    with pytest.raises(DomainError) as refusal:
        open_chat(alice, {"name": "greeting", **asked})
    error = error_of(api(alice).post("/api/v1/prompts/templates/greeting/render", asked), 400)

    assert (refusal.value.code, refusal.value.param) == (code, f"prompt.{param}")
    assert (error["code"], error["param"]) == (code, param)


def test_a_name_that_can_be_none_is_refused(alice, model):
    with pytest.raises(DomainError) as refusal:
        open_chat(alice, {"name": "greeting@5@x"})
    assert (refusal.value.code, refusal.value.param) == ("invalid_name", "prompt.name")


def test_usage_is_rolled_up_by_version(api, alice, model):
    template = a_template(alice, "Hello", name="greeting")
    by = Caller(user_id=alice.pk)
    templates.add_version(template=template, by=by, content="Hi")
    for number, status, cost in ((1, "success", 5), (1, "error", 0), (2, "success", 7), (2, "running", 0)):
        turn = open_chat(alice, {"name": "greeting", "version": number})
        ended = None if status == "running" else Request.objects.latest("id").created_at
        Request.objects.filter(pk=turn.call.request_id).update(
            status=status, cost=cost, input_tokens=3, output_tokens=2, processing_time=10, finished_at=ended
        )

    assert usage.roll_up() == usage.roll_up() == 2

    fields = ("version__number", "requests", "errors", "input_tokens", "output_tokens", "cost", "processing_time")
    assert list(PromptUsage.objects.order_by("version__number").values_list(*fields)) == [
        (1, 2, 1, 6, 4, 5, 20),
        (2, 1, 0, 3, 2, 7, 10),
    ]
    assert api(alice).get("/api/v1/prompts/templates/greeting").json()["usage_count"] == 3
    assert PromptTemplate.objects.with_usage().get().usage_count == 3
