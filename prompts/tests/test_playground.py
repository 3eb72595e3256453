"""The pages of the playground: who may open them, and what they show before anything runs."""

import pytest
from django.contrib.auth.models import Group
from django.urls import reverse
from django.utils import timezone

from accounts.caller import Caller
from accounts.exceptions import NotAllowed
from accounts.tests.factories import UserFactory
from inference.models import Model, Provider, Request
from prompts import playground, templates
from prompts.models import PromptTemplate
from prompts.tests.factories import a_template
from tests.admin import page

PAGE = reverse("admin:prompts_prompttemplate_playground")
PREVIEW = reverse("admin:prompts_prompttemplate_playground_preview")
FIGURES = reverse("admin:prompts_prompttemplate_playground_figures")
CONTENT = [{"role": "system", "content": "Be {{ tone }}."}, {"role": "user", "content": "{{ question }}"}]
VARIABLES = [
    {"name": "tone", "type": "enum", "choices": ["kind", "curt"], "default": "kind"},
    {"name": "question", "description": "What <b>they</b> wrote"},
]


@pytest.fixture
def operator(client, olga):
    client.force_login(olga)
    provider = Provider.objects.create(name="local", base_url="http://127.0.0.1:9/v1")
    for name, kind in (("chatty", "llm"), ("vectors", "embedding")):
        Model.objects.create(name=name, upstream_name=name, provider=provider, kind=kind)
    return client


@pytest.fixture
def template(alice):
    return a_template(alice, CONTENT, variables=VARIABLES, name="answer")


def preview(client, template, **fields):
    return client.post(PREVIEW, {"template": str(template.pk), **fields}).json()


@pytest.mark.parametrize(("role", "status"), [("operator", 200), ("support", 403), ("analyst", 403), ("", 403)])
def test_operators_may_try_templates_and_other_staff_may_not(client, template, role, status):
    member = UserFactory(is_staff=True)
    member.groups.set(Group.objects.filter(name=role))
    client.force_login(member)
    chosen = {"template": str(template.pk)}

    assert client.get(PAGE, chosen).status_code == status
    assert client.post(PREVIEW, chosen).status_code == status
    assert client.get(FIGURES).status_code == status
    assert (PAGE in client.get("/admin/").content.decode()) == (status == 200)


def test_others_are_sent_to_the_login(client, alice):
    for _ in range(2):
        for address in (PAGE, PREVIEW, FIGURES):
            assert client.get(address).headers["Location"].startswith("/admin/login/")
        client.force_login(alice)


def test_who_may_not_run_templates_is_refused_by_the_service(template, alice):
    by = Caller(user_id=alice.pk, is_staff=True, permissions=frozenset({"prompts.change_prompttemplate"}))

    with pytest.raises(NotAllowed):
        playground.open_run(by=by, template=template, target="1", variables={"question": "?"}, model="chatty")


def test_the_page_offers_templates_versions_and_models(operator, template, alice):
    templates.add_version(template=template, by=Caller(user_id=alice.pk), content="Hi", commit_message="Shorter")

    empty = operator.get(PAGE)
    answer = operator.get(PAGE, {"template": str(template.pk)})

    assert "Choose one" in empty.content.decode()
    form = answer.context["form"]
    assert form.fields["template"].choices == [(str(template.pk), "answer · alice@example.com")]
    assert [value for value, _shown in form.fields["target_a"].choices] == ["production", "2", "1"]
    assert (form.fields["target_a"].initial, form.fields["target_b"].initial) == ("production", "2")
    assert form.fields["model_a"].choices == [("chatty", "chatty")]
    html = answer.content.decode()
    assert "What &lt;b&gt;they&lt;/b&gt; wrote" in html
    assert "Be kind." in html
    assert "{{ question }}" in html


def test_a_preview_shows_values_defaults_and_gaps(operator, template):
    parts = preview(operator, template, **{"variable-tone": "curt"})

    assert "Be curt." in parts["prompt-a"]
    assert "{{ question }}" in parts["prompt-a"]
    assert parts["errors"] == {}
    said = preview(operator, template, **{"variable-question": "<script>{{ tone }}"})["prompt-a"]
    assert "&lt;script&gt;{{ tone }}" in said
    assert "Be kind." in said
    assert not Request.objects.exists()


@pytest.mark.parametrize(
    ("kind", "typed", "shown"),
    [
        ("integer", "7", "It is 7."),
        ("number", "1.50", "It is 1.5."),
        ("boolean", "true", "It is true."),
        ("list", "one\r\n\r\ntwo", "It is one, two."),
        ("string", " a\r\nb ", "It is  a\nb ."),
        ("integer", "seven", None),
        ("integer", "9" * 5000, None),
        ("number", "nan", None),
        ("boolean", "yes", None),
    ],
)
def test_what_is_typed_becomes_a_value_of_its_type(operator, alice, kind, typed, shown):
    template = a_template(alice, "It is {{ it }}.", variables=[{"name": "it", "type": kind}])

    parts = preview(operator, template, **{"variable-it": typed})

    if shown is None:
        assert parts["errors"]["variables.it"].startswith("it must be ")
        assert parts["errors"]["variables.it"] in parts["prompt-a"]
    else:
        assert shown in parts["prompt-a"]
        assert parts["errors"] == {}


def test_a_value_with_nul_is_refused_and_not_changed(operator, template):
    parts = preview(operator, template, **{"variable-question": "a\0b"})

    assert parts["errors"] == {"variables.question": "Text must not contain NUL characters."}
    assert parts["errors"]["variables.question"] in parts["prompt-a"]


def test_two_versions_share_the_variables_and_show_what_differs(operator, template, alice):
    templates.add_version(template=template, by=Caller(user_id=alice.pk), content="Hi {{ who }}, {{ question }}")

    typed = {"variable-who": "Ada", "variable-question": "Why?", "variable-tone": "curt"}
    parts = preview(operator, template, compare="on", **typed)

    assert "Be curt." in parts["prompt-a"]
    assert "Hi Ada, Why?" in parts["prompt-b"]
    assert 'data-kind="added">+Hi {{ who }}' in parts["changes"]
    assert all(f'name="variable-{name}"' in parts["fields"] for name in ("tone", "question", "who"))
    same = preview(operator, template, compare="on", target_a="1", target_b="production")
    assert same["changes"].strip() == ""


def test_what_does_not_exist_says_so(operator, template):
    assert "has no label staging" in preview(operator, template, target_a="staging")["prompt-a"]
    assert "has no version 9" in preview(operator, template, target_a="9")["prompt-a"]
    assert "has no label nowhere" in preview(operator, template, target_a="no\0where")["prompt-a"]
    templates.delete_template(template=template, by=Caller(user_id=template.user_id))
    for chosen in (str(template.pk), "nonsense"):
        assert operator.get(PAGE, {"template": chosen}).context["choice"] is None
        answer = operator.post(PREVIEW, {"template": chosen}, headers={"Accept": "application/json"})
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "template_not_found"


def test_the_page_of_a_template_leads_to_the_playground(operator, template):
    answer = operator.get(page(template, "try_out"))

    assert answer.headers["Location"] == f"{PAGE}?template={template.pk}"
    both = f"{PAGE}?template={template.pk}&amp;compare=on&amp;target_a=1&amp;target_b=2"
    assert both not in operator.get(page(template)).content.decode()
    templates.add_version(template=template, by=Caller(user_id=template.user_id), content="Hi")
    assert both in operator.get(page(template)).content.decode()
    PromptTemplate.objects.update(deleted_at=template.created_at)
    assert operator.get(page(template, "try_out")).status_code == 403


def test_figures_stand_beside_each_other_and_only_ones_own(operator, template, olga, alice):
    fields = {"request_type": "llm", "model": "m", "prompt_version_id": template.versions.get().pk}
    fields |= {"status": "success", "finished_at": timezone.now()}
    first = Request.objects.create(user=olga, **fields, input_tokens=10, cost=100, processing_time=50)
    second = Request.objects.create(user=olga, **fields, input_tokens=15, cost=100, processing_time=40)
    others = Request.objects.create(user=alice, **fields)

    rows = operator.get(FIGURES, {"a": first.pk, "b": second.pk}).context["rows"]

    assert rows[0] == {"name": "Input tokens", "shown": ["10", "15"], "difference": "+5", "share": "+50 %"}
    assert (rows[2]["difference"], rows[3]["difference"]) == ("same", "-")
    assert (rows[4]["difference"], rows[4]["share"]) == ("-10 ms", "-20 %")
    assert operator.get(FIGURES, {"a": others.pk, "b": "nonsense"}).context["runs"] == []
