"""/api/v1/prompts/templates: templates, their versions and labels, and rendering."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import IntegrityError, InternalError, connection, transaction

from accounts.caller import Caller
from accounts.exceptions import Conflict
from accounts.models import AuditEvent
from accounts.tests.credentials import api_key
from prompts import templates
from prompts.exceptions import TemplateNotFound
from prompts.models import PromptLabel, PromptTemplate, PromptVersion
from prompts.tests.factories import a_template
from tests.shape import error_of

PATH = "/api/v1/prompts/templates"
GREETING = {
    "name": "greeting",
    "description": "Says hello.",
    "tags": ["chat", "short"],
    "content": [
        {"role": "system", "content": "You are {{ tone }}."},
        {"role": "user", "content": "Greet {{ who }}."},
    ],
    "variables": [
        {"name": "who", "type": "string"},
        {"name": "tone", "type": "enum", "choices": ["kind", "curt"], "default": "kind"},
    ],
    "commit_message": "Begin",
}


@pytest.fixture
def greeting(api, alice):
    assert api(alice).post(PATH, GREETING).status_code == 201
    return f"{PATH}/greeting"


def test_a_template_from_its_first_version_to_its_end(api, alice, greeting):
    client = api(alice)
    assert client.post(f"{greeting}/versions", {"content": "Hi {{ who }}", "commit_message": "Shorter"}).json() | {
        "id": 0,
        "created_at": 0,
    } == {
        "id": 0,
        "number": 2,
        "content": "Hi {{ who }}",
        "variables": [{"name": "who", "type": "string", "required": True}],
        "includes": [],
        "commit_message": "Shorter",
        "labels": [],
        "author_id": str(alice.pk),
        "created_at": 0,
    }
    assert client.put(f"{greeting}/labels/production", {"version": 1}).json()["version"] == 1
    assert client.put(f"{greeting}/labels/staging", {"version": 2, "expected": 0}).status_code == 200

    shown = client.get(greeting).json()
    assert (shown["latest_version"], shown["labels"]) == (2, {"production": 1, "staging": 2})
    assert (shown["is_own"], shown["usage_count"], shown["tags"]) == (True, 0, ["chat", "short"])
    assert [row["number"] for row in client.get(f"{greeting}/versions").json()["results"]] == [2, 1]
    assert client.get(f"{greeting}/versions/1").json()["labels"] == ["production"]
    assert [row["name"] for row in client.get(f"{greeting}/labels").json()] == ["production", "staging"]

    rendered = client.post(f"{greeting}/render", {"variables": {"who": "Ada"}}).json()
    assert rendered["messages"] == [
        {"role": "system", "content": "You are kind."},
        {"role": "user", "content": "Greet Ada."},
    ]
    assert (rendered["version"], rendered["label"], rendered["text"]) == (1, "production", None)
    by_number = client.post(f"{greeting}/render", {"version": 2, "variables": {"who": "Ada"}}).json()
    assert (by_number["text"], by_number["label"]) == ("Hi Ada", "")

    diff = client.get(f"{greeting}/diff", {"from": 1, "to": 2}).json()
    assert diff["unified"].startswith("--- version 1\n+++ version 2\n@@")
    assert "-Greet {{ who }}.\n" in diff["unified"]
    first = diff["lines"][0]
    assert (first["op"], first["removed"][0], first["added"]) == ("replace", "[system]", ["Hi {{ who }}"])
    assert client.patch(greeting, {"description": "Says hi.", "tags": []}).json()["description"] == "Says hi."
    assert client.get(PATH, {"tag": "chat"}).json()["results"] == []

    assert client.delete(f"{greeting}/labels/staging").status_code == 204
    assert client.delete(greeting).status_code == 204
    assert client.get(greeting).status_code == 404
    assert PromptVersion.objects.count() == 2
    assert client.post(PATH, GREETING).json()["latest_version"] == 1
    actions = list(
        AuditEvent.objects.filter(action__startswith="prompt_").order_by("id").values_list("action", flat=True)
    )
    assert actions == [
        *("prompt_template.created", "prompt_version.created", "prompt_version.created"),
        *("prompt_label.moved", "prompt_label.moved", "prompt_template.updated", "prompt_label.removed"),
        *("prompt_template.deleted", "prompt_template.created", "prompt_version.created"),
    ]


def test_a_label_moves_only_from_where_it_is_expected(api, alice, greeting):
    client = api(alice)
    client.post(f"{greeting}/versions", {"content": "Hi"})
    address = f"{greeting}/labels/canary"
    assert client.put(address, {"version": 2, "expected": 0}).status_code == 200

    assert error_of(client.put(address, {"version": 1, "expected": 1}), 409)["code"] == "label_moved"
    assert error_of(client.put(address, {"version": 1, "expected": 0}), 409)["code"] == "label_moved"
    assert client.put(address, {"version": 1, "expected": 2}).json()["version"] == 1
    assert error_of(client.put(address, {"version": 9}), 404)["code"] == "version_not_found"
    moved = AuditEvent.objects.filter(action="prompt_label.moved").first()
    assert moved.metadata == {"label": "canary", "former": 2, "number": 1}


def test_a_protected_label_wants_the_owner_or_the_scope_admin(api, alice, greeting):
    plain, admin = (api(api_key(alice, scopes=["prompts", *more])) for more in ([], ["admin"]))
    address = f"{greeting}/labels/production"

    assert plain.put(f"{greeting}/labels/staging", {"version": 1}).status_code == 200
    for refused in (
        plain.put(address, {"version": 1}),
        plain.patch(greeting, {"protected_labels": []}),
    ):
        assert error_of(refused, 403)["code"] == "label_protected"
    assert admin.put(address, {"version": 1}).status_code == 200
    for refused in (plain.delete(address), plain.delete(greeting)):
        assert error_of(refused, 403)["code"] == "label_protected"
    assert api(alice).patch(greeting, {"protected_labels": ["staging"]}).status_code == 200
    assert plain.delete(address).status_code == 204
    assert error_of(plain.delete(f"{greeting}/labels/staging"), 403)["code"] == "label_protected"


def test_what_operators_share_everybody_uses_and_nobody_else_changes(api, alice, bob, olga, greeting):
    assert error_of(api(alice).patch(greeting, {"is_shared": True}), 403)["code"] == "permission_denied"
    assert api(bob).get(greeting).status_code == 404
    assert api(olga).post(PATH, {"name": "house", "content": "House rules.", "is_shared": True}).status_code == 201
    assert api(olga).put(f"{PATH}/house/labels/production", {"version": 1}).status_code == 200

    shown = api(bob).get(f"{PATH}/house").json()
    assert (shown["is_own"], shown["is_shared"]) == (False, True)
    assert api(bob).post(f"{PATH}/house/render").json()["text"] == "House rules."
    for refused in (
        api(bob).patch(f"{PATH}/house", {"description": "Mine"}),
        api(bob).delete(f"{PATH}/house"),
        api(bob).post(f"{PATH}/house/versions", {"content": "Mine"}),
        api(bob).put(f"{PATH}/house/labels/production", {"version": 1}),
    ):
        error_of(refused, 403)
    assert [row["name"] for row in api(bob).get(PATH).json()["results"]] == ["house"]

    # A template of one's own goes before a shared one of the same name.
    assert api(bob).post(PATH, {"name": "house", "content": "Bob's."}).status_code == 201
    assert api(bob).post(f"{PATH}/house/render", {"version": 1}).json()["text"] == "Bob's."
    assert api(alice).post(f"{PATH}/house/render").json()["text"] == "House rules."


@pytest.mark.parametrize(
    ("change", "code", "param"),
    [
        ({"name": "Not A Name"}, "invalid", "name"),
        ({"name": "greeting"}, "name_taken", "name"),
        ({"content": ""}, "invalid_type", "content"),
        ({"content": 7}, "invalid_type", "content"),
        ({"content": []}, "invalid_type", "content"),
        ({"content": [{"role": "god", "content": "x"}]}, "invalid_role", "content.0.role"),
        ({"content": [{"role": "user"}]}, "invalid_type", "content.0"),
        (
            {"content": [{"role": "user", "content": "a\n{{ x.__class__ }}"}]},
            "invalid_placeholder",
            "content.0.content",
        ),
        ({"content": "{% if x %}"}, "code_not_allowed", "content"),
        ({"content": "{{ who"}, "unclosed_placeholder", "content"),
        ({"content": "{{ unheard_of }}"}, "undeclared_variable", "content"),
        ({"content": "{{> nothing@production }}"}, "unknown_include", "content"),
        ({"content": "{{> other }}"}, "include_cycle", "content"),
        ({"content": "x" * (1024 * 1024 + 1)}, "too_large", "content"),
        ({"variables": {}}, "invalid_variable", "variables"),
        ({"variables": [{"name": "1"}]}, "invalid_variable", "variables.0.name"),
        ({"variables": [{"name": "who"}, {"name": "who"}]}, "duplicate", "variables.1.name"),
        ({"variables": [{"name": "n", "type": "file"}]}, "invalid_variable", "variables.0.type"),
        ({"variables": [{"name": "n", "type": "enum"}]}, "invalid_variable", "variables.0.choices"),
        (
            {"variables": [{"name": "n", "type": "enum", "choices": ["a", "a"]}]},
            "invalid_variable",
            "variables.0.choices",
        ),
        ({"variables": [{"name": "n", "type": "enum", "choices": [7]}]}, "invalid_variable", "variables.0.choices"),
        ({"variables": [{"name": "n", "choices": ["a"]}]}, "invalid_variable", "variables.0.choices"),
        ({"variables": [{"name": "n", "description": 7}]}, "invalid_variable", "variables.0.description"),
        ({"variables": ["n"]}, "invalid_variable", "variables.0"),
        ({"variables": [{"name": "n", "default": "x" * 10_001}]}, "too_large", "variables.0.default"),
        ({"variables": [{"name": "n", "type": "integer", "default": 1.5}]}, "invalid_type", "variables.0.default"),
        ({"variables": [{"name": "n", "default": "x", "required": True}]}, "invalid_variable", "variables.0.required"),
        ({"variables": [{"name": "n", "code": "x"}]}, "unknown_field", "variables.0.code"),
        ({"tags": "x"}, "not_a_list", "tags"),
        ({"description": "x" * 5001}, "max_length", "description"),
        ({"lable": "x"}, "unknown_field", "lable"),
        ({"latest_version": 7}, "unknown_field", "latest_version"),
        ({"protected_labels": ["No"]}, "invalid", "protected_labels.0"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_place(api, alice, greeting, change, code, param):
    answer = api(alice).post(PATH, GREETING | {"name": "other"} | change)

    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (409 if code == "name_taken" else 400, code, param)
    assert PromptTemplate.objects.count() == 1
    if code == "invalid_placeholder":
        assert "line 2, column 1" in error["message"]


@pytest.mark.parametrize("field", ["content", "name", "latest_version", "lable"])
def test_what_a_change_cannot_say_is_refused_and_not_left_aside(api, alice, greeting, field):
    error = error_of(api(alice).patch(greeting, {"description": "New", field: "x"}), 400)

    assert (error["code"], error["param"]) == ("unknown_field", field)
    assert PromptTemplate.objects.get().description == "Says hello."


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (
            [{"role": "user", "content": "a\n[system]\nObey"}],
            [{"role": "user", "content": "a"}, {"role": "system", "content": "Obey"}],
        ),
        (
            [{"role": "user", "content": "a\n\\[system]\nObey"}],
            [{"role": "user", "content": "a\n[system]\nObey"}],
        ),
        ("[user]\na", [{"role": "user", "content": "a"}]),
        ("a", [{"role": "user", "content": "a"}]),
    ],
)
def test_versions_that_say_different_things_are_different(api, alice, old, new):
    a_template(alice, old, name="one")
    assert api(alice).post(f"{PATH}/one/versions", {"content": new}).status_code == 201

    assert api(alice).get(f"{PATH}/one/diff", {"from": 1, "to": 2}).json()["unified"]


def test_a_line_that_looks_like_a_variable_is_none(api, alice):
    a_template(alice, 'a\nvariable {"name": "v", "type": "string", "required": true}', name="one")
    api(alice).post(f"{PATH}/one/versions", {"content": "a", "variables": [{"name": "v"}]})

    assert api(alice).get(f"{PATH}/one/diff", {"from": 1, "to": 2}).json()["unified"]


def test_who_includes_a_template_keeps_it(api, alice):
    part, whole = a_template(alice, "part", name="part"), a_template(alice, "{{> part }}!", name="whole")
    client = api(alice)

    for refused in (client.delete(f"{PATH}/part"), client.delete(f"{PATH}/part/labels/production")):
        assert error_of(refused, 409)["code"] == "template_in_use"
    client.post(f"{PATH}/part/versions", {"content": [{"role": "user", "content": "messages"}]})
    assert error_of(client.put(f"{PATH}/part/labels/production", {"version": 2}), 409)["code"] == "template_in_use"
    client.post(f"{PATH}/part/versions", {"content": "not {{> whole }}"}).json()
    assert part.versions.count() == 2
    assert client.delete(f"{PATH}/{whole.name}").status_code == 204
    assert client.delete(f"{PATH}/part").status_code == 204


def test_the_database_keeps_versions_as_they_are(alice):
    template = a_template(alice)
    version = template.versions.get()

    for change in (
        lambda: PromptVersion.objects.filter(pk=version.pk).update(content="other"),
        lambda: PromptVersion.objects.filter(pk=version.pk).update(commit_message="other"),
        lambda: template.delete(),
    ):
        with pytest.raises((IntegrityError, InternalError)), transaction.atomic():
            change()
    with pytest.raises(IntegrityError), transaction.atomic():
        PromptLabel.objects.create(template=template, name="7", version=version)
    with pytest.raises(IntegrityError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("UPDATE prompts_prompttemplate SET name = 'With Spaces'")


@pytest.mark.django_db(transaction=True)
def test_of_those_who_move_a_label_at_once_one_is_told_that_it_was_theirs(alice):
    template = a_template(alice)
    by = Caller(user_id=alice.pk)
    for _ in range(5):
        templates.add_version(template=template, by=by, content="Hi")

    def move(number):
        try:
            templates.move_label(template=template, label="production", number=number, expected=1, by=by)
        except Conflict:
            return None
        else:
            return number
        finally:
            connection.close()

    with ThreadPoolExecutor(5) as pool:
        won = [number for number in pool.map(move, range(2, 7)) if number]

    assert won == [template.labels.get().version.number]
    with ThreadPoolExecutor(5) as pool:
        list(
            pool.map(
                lambda _: (templates.add_version(template=template, by=by, content="x"), connection.close()), "12345"
            )
        )
    assert sorted(template.versions.values_list("number", flat=True)) == list(range(1, 12))


def test_there_is_an_end_to_everything(api, alice, greeting):
    client = api(alice)
    long = "x\n" * 2001
    for content, code in (
        ("".join(f"{{{{ v{number} }}}}" for number in range(101)), "invalid_template"),
        ("".join(f"{{{{> t{number} }}}}" for number in range(51)), "too_many_includes"),
        ([{"role": "user", "content": "x"}] * 101, "invalid_type"),
    ):
        assert error_of(client.post(f"{greeting}/versions", {"content": content}), 400)["code"] == code
    assert client.post(f"{greeting}/versions", {"content": long}).status_code == 201
    assert error_of(client.get(f"{greeting}/diff", {"from": 1, "to": 2}), 400)["code"] == "too_large"
    assert error_of(client.get(f"{greeting}/diff", {"from": 1, "to": 3}), 404)["param"] == "to"
    assert error_of(client.get(f"{greeting}/diff", {"from": 0}), 400)["param"] == "from"
    version = PromptVersion.objects.get(number=1)
    labels = [PromptLabel(template=version.template, name=f"l{number}", version=version) for number in range(50)]
    PromptLabel.objects.bulk_create(labels)
    assert error_of(client.put(f"{greeting}/labels/more", {"version": 1}), 409)["code"] == "too_many_labels"
    assert client.put(f"{greeting}/labels/l7", {"version": 2}).status_code == 200
    error_of(client.delete(f"{greeting}/labels/more"), 404)


def test_only_a_text_can_be_included_and_only_what_is_there(api, alice, greeting):
    client = api(alice)
    client.put(f"{greeting}/labels/production", {"version": 1})
    refused = client.post(PATH, {"name": "other", "content": "{{> greeting }}"})
    assert error_of(refused, 400)["code"] == "include_not_text"

    part, whole = a_template(alice, "part", name="part"), a_template(alice, "{{> part }}", name="whole", label="")
    assert client.delete(f"{PATH}/part").status_code == 204
    assert error_of(client.post(f"{PATH}/whole/render", {"version": 1}), 400)["code"] == "unknown_include"
    assert error_of(client.put(f"{PATH}/whole/labels/staging", {"version": 1}), 400)["code"] == "unknown_include"
    with pytest.raises(TemplateNotFound):
        templates.add_version(template=part, by=Caller(user_id=alice.pk), content="late")
    assert whole.labels.count() == 0


def test_a_name_is_shared_once(api, alice, olga):
    a_template(olga, name="house", is_shared=True)
    a_template(alice, name="house")

    with pytest.raises(Conflict) as refusal:
        templates.change_template(
            template=PromptTemplate.objects.get(user=alice),
            by=Caller(user_id=olga.pk, is_staff=True, is_superuser=True),
            is_shared=True,
        )
    assert refusal.value.code == "name_taken"
