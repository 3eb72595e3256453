"""What changes of a template do to those that include it: nothing that was not said before."""

import pytest

from accounts.caller import Caller
from accounts.exceptions import Conflict
from prompts import templates
from prompts.exceptions import TemplateError
from prompts.models import PromptLabel, PromptTemplate, PromptVersion
from prompts.rendering import render
from prompts.tests.factories import a_template

MESSAGES = [{"role": "user", "content": "messages"}]


def owner(template):
    return {"template": template, "by": Caller(user_id=template.user_id)}


def add(template, content, **fields):
    return templates.add_version(**owner(template), content=content, **fields)


def move(template, number, label="production"):
    templates.move_label(**owner(template), label=label, number=number)


def refusal_of(change):
    with pytest.raises(Conflict) as refusal:
        change()
    assert refusal.value.code == "template_in_use"
    return str(refusal.value)


@pytest.fixture
def part(alice):
    """Included by `whole`, by way of a version of `middle` that has no label."""
    part = a_template(alice, "part", name="part")
    middle = a_template(alice, "old", name="middle")
    add(middle, "{{> part }}")
    a_template(alice, "{{> middle@2 }}", name="whole")
    return part


@pytest.mark.parametrize("content", [MESSAGES, "part for {{ who }}", "{{> late }}", "{{> deep-9 }}"])
def test_a_label_does_not_move_to_what_breaks_others_on_the_way(alice, part, content):
    a_template(alice, "deep", name="deep-0")
    for level in range(1, 10):
        a_template(alice, f"{{{{> deep-{level - 1} }}}}", name=f"deep-{level}")
    late = a_template(alice, "late", name="late")
    number = add(part, content).number
    if "late" in str(content):
        # A circle that is not there yet when the version is made.
        add(late, "{{> whole }}")
        PromptLabel.objects.filter(template=late).update(version=late.versions.get(number=2))

        with pytest.raises(TemplateError, match="includes itself"):
            move(part, number)
    else:
        said = refusal_of(lambda: move(part, number))
        assert "whole@production" in said
        assert ("value for who" in said) == ("who" in str(content))
    assert render(owner_id=alice.pk, name="whole", variables={}).text == "part"


def test_nothing_goes_that_is_needed_and_what_is_broken_already_needs_nothing(alice, part):
    for change in (
        lambda: templates.remove_label(**owner(part), label="production"),
        lambda: templates.delete_template(**owner(part)),
    ):
        assert "There is nothing to include as part@production" in refusal_of(change)
    lost = PromptVersion.objects.create(
        template=PromptTemplate.objects.get(name="whole"),
        number=9,
        content="{{> part }}{{> lost }}",
        includes=["part@production", "lost@production"],
    )
    PromptLabel.objects.filter(template__name="whole").update(version=lost)

    templates.remove_label(**owner(part), label="production")
    templates.delete_template(**owner(part))


def test_a_required_value_that_was_wanted_before_breaks_nothing(alice, part):
    whole = PromptTemplate.objects.get(name="whole")
    add(whole, "{{ who }} {{> middle@2 }}")
    move(whole, 2)

    move(part, add(part, "part for {{ who }}").number)

    assert render(owner_id=alice.pk, name="whole", variables={"who": "Ada"}).text == "Ada part for Ada"


def test_strangers_who_include_what_is_shared_follow_its_owner(alice, bob, olga):
    shared = a_template(olga, "shared", name="shared", is_shared=True)
    a_template(bob, "{{> shared }}", name="bobs")

    move(shared, add(shared, "for {{ who }}").number)
    templates.change_template(**owner(shared), is_shared=False)
    templates.delete_template(**owner(shared))


def test_an_own_template_hides_a_shared_one_only_where_it_has_the_version(alice, olga):
    a_template(olga, "shared", name="rules", is_shared=True)
    a_template(alice, "{{> rules }}", name="all")
    a_template(alice, "{{> rules@1 }}", name="pinned")

    own = templates.create_template(by=Caller(user_id=alice.pk), name="rules")
    assert render(owner_id=alice.pk, name="all", variables={}).text == "shared"
    assert "pinned@production" in refusal_of(lambda: add(own, MESSAGES))
    add(own, "own")
    assert render(owner_id=alice.pk, name="all", variables={}).text == "shared"
    move(own, 1)
    assert render(owner_id=alice.pk, name="all", variables={}).text == "own"
    assert "all@production" in refusal_of(lambda: move(own, add(own, MESSAGES).number))
    templates.delete_template(**owner(own))
    assert render(owner_id=alice.pk, name="all", variables={}).text == "shared"
