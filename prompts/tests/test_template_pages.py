"""Templates and versions that operators write on pages."""

import pytest

from accounts.caller import Caller
from accounts.exceptions import NotAllowed
from accounts.models import AuditEvent
from prompts import templates
from prompts.models import PromptTemplate, PromptVersion
from prompts.tests.factories import a_template
from tests.admin import filled_form, messages, page, save

ADD = page(PromptTemplate, "add")
TEXT = {"kind": "text", "commit_message": "Begin"}


@pytest.fixture
def operator(client, olga):
    client.force_login(olga)
    return client


def declared(*rows):
    """The fields of a form with variables; each row has a name, a type, and others by name."""
    fields = {f"variable_{part}": [] for part in ("name", "type", "need", "default", "choices", "description")}
    for name, kind, more in rows:
        row = {"need": "required", **more, "name": name, "type": kind}
        for part, values in fields.items():
            values.append(row.get(part.removeprefix("variable_"), ""))
    return fields


def test_an_operator_adds_a_template_and_goes_on_to_its_first_version(operator, olga, alice):
    answer = save(operator, ADD, name="greeting", description="Says hello.", tags="chat, support, chat")

    template = PromptTemplate.objects.get()
    assert answer.headers["Location"] == page(template, "new_version")
    assert (template.user, template.tags, template.is_shared) == (olga, ["chat", "support"], False)
    save(operator, ADD, name="greeting", user=str(alice.pk), is_shared="on")
    theirs = PromptTemplate.objects.get(user=alice)
    assert theirs.is_shared
    events = AuditEvent.objects.filter(action="prompt_template.created")
    assert set(events.values_list("actor_id", "target_id")) == {(olga.pk, str(row.pk)) for row in (template, theirs)}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": "Not plain"}, "name"),
        ({"name": "taken"}, "name"),
        ({"name": "shared", "is_shared": "on"}, "name"),
        ({"user": None}, "user"),
        ({"tags": "x" * 51}, "tags"),
        ({"tags": ",".join(map(str, range(21)))}, "tags"),
    ],
)
def test_what_is_wrong_with_a_template_is_said_at_its_field(operator, olga, alice, changes, field):
    a_template(olga, name="taken")
    a_template(alice, name="shared", is_shared=True)

    answer = operator.post(ADD, filled_form(operator, ADD, **{"name": "new"} | changes))

    assert answer.status_code == 200
    assert set(answer.context["adminform"].form.errors) == {field}
    assert PromptTemplate.objects.count() == 2


def test_nobody_else_makes_templates_for_others(alice, bob):
    with pytest.raises(NotAllowed):
        templates.create_template(by=Caller(user_id=alice.pk), owner_id=bob.pk, name="greeting")


def test_a_version_is_written_with_its_variables(operator, olga, alice):
    template = a_template(alice, "Hello {{ who }}!", name="greeting")
    variables = declared(
        ("who", "string", {"description": "Whom"}),
        ("tone", "enum", {"choices": "kind\r\ncurt", "default": "kind"}),
        ("most", "integer", {"need": "optional"}),
        ("", "string", {}),
    )

    sent = {**TEXT, "text": "Hi {{ who }},\r\nbe {{ tone }} {{ most }}", **variables}
    answer = operator.post(page(template, "new_version"), sent)

    assert messages(answer, operator) == ["Version 2 is made. No label stands for it yet."]
    version = template.versions.get(number=2)
    assert version.content == "Hi {{ who }},\nbe {{ tone }} {{ most }}"
    assert version.variables == [
        {"name": "who", "type": "string", "required": True, "description": "Whom"},
        {"name": "tone", "type": "enum", "required": False, "default": "kind", "choices": ["kind", "curt"]},
        {"name": "most", "type": "integer", "required": False},
    ]
    assert (version.commit_message, version.author_id) == ("Begin", olga.pk)
    assert template.labels.get().version.number == 1
    assert AuditEvent.objects.filter(action="prompt_version.created", actor_id=olga.pk).count() == 1


def test_messages_begin_with_those_of_the_last_version(operator, alice):
    template = a_template(alice, [{"role": "system", "content": "Be {{ tone }}."}])
    form = operator.get(page(template, "new_version")).context
    assert [(row["role"], row["content"]) for row in form["messages_written"]] == [("system", "Be {{ tone }}.")]

    sent = {"kind": "messages", "role": ["system", "user"], "content": ["Be brief.", "{{ question }}"]}
    operator.post(page(template, "new_version"), sent)

    assert template.versions.get(number=2).content[1] == {"role": "user", "content": "{{ question }}"}
    assert operator.get(page(template, "new_version"), {"from": "1"}).context["draft"].messages[0]["content"] == (
        "Be {{ tone }}."
    )


def test_variables_that_nobody_declared_are_those_of_the_new_text(operator, alice):
    template = a_template(alice, "{{ old }} {{ kept }}", name="greeting")
    begun = operator.get(page(template, "new_version")).context["draft"]
    assert begun.declarations is None

    operator.post(page(template, "new_version"), {**TEXT, "text": "{{ kept }} {{ new }}"})

    version = template.versions.get(number=2)
    assert [row["name"] for row in version.variables] == ["kept", "new"]
    declared_rows = declared(("who", "string", {"description": "Whom"}))
    operator.post(page(template, "new_version"), {**TEXT, "text": "{{ who }}", **declared_rows})
    rows = operator.get(page(template, "new_version")).context["variables"]
    assert [(row["name"], row["description"]) for row in rows] == [("who", "Whom")]


@pytest.mark.parametrize(
    ("fields", "where", "said"),
    [
        ({"text": ""}, "content_error", "must be a text"),
        ({"text": "a\r\n{{ x.y }}"}, "content_error", "line 2, column 1"),
        ({"text": "{% if %}"}, "content_error", "Templates run nothing"),
        ({"text": "{{> nothing }}"}, "content_error", "nothing@production (line 1, column 1)"),
        ({"text": "{{ x }}", **declared(("y", "string", {}))}, "content_error", "x is not among the declared"),
        ({"text": "a", **declared(("x", "enum", {}))}, "variables", "list of 1 to"),
        ({"text": "a", **declared(("x", "integer", {"default": "many"}))}, "variables", "a whole number"),
        ({"text": "a", **declared(("1x", "string", {}))}, "variables", "begins with no digit"),
        ({"kind": "messages", "role": ["user"], "content": ["{{"]}, "messages_written", "never closed"),
        ({"kind": "messages", "role": ["robot"], "content": ["a"]}, "messages_written", "role must be one of"),
        ({"kind": "messages"}, "content_error", "1 to 100 messages"),
        ({"text": "a", "commit_message": "x" * 501}, "commit_message_error", "500"),
    ],
)
def test_what_is_wrong_with_a_version_is_said_at_its_place(operator, alice, fields, where, said):
    template = a_template(alice, name="greeting")

    answer = operator.post(page(template, "new_version"), TEXT | fields)

    found = answer.context[where]
    assert said in (found if isinstance(found, str) else found[0]["error"])
    assert PromptVersion.objects.count() == 1


def test_a_preview_writes_nothing(operator, alice):
    a_template(alice, "Be brief.", name="rules")
    template = a_template(alice, name="greeting")

    def preview(text, **fields):
        sent = {**TEXT, "text": text, "preview": "1", **fields}
        return operator.post(page(template, "new_version"), sent).json()["preview"]

    variables = declared(("who", "string", {"default": "<b>"}), ("day", "integer", {}))
    assert "Hi &lt;b&gt; {{ day }}. Be brief." in preview("Hi {{ who }} {{ day }}. {{> rules }}", **variables)
    assert "line 1, column 1" in preview("{{ x.y }}")
    assert "Nothing has been written yet." in preview("")
    assert template.versions.count() == 1


def test_nothing_is_written_into_a_deleted_template(operator, alice):
    template = a_template(alice, name="greeting")
    templates.delete_template(template=template, by=Caller(user_id=alice.pk))

    assert operator.post(page(template, "new_version"), {**TEXT, "text": "Hi"}).status_code == 403
    assert template.versions.count() == 1
