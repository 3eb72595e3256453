"""Rendering: values go in as they are, includes follow their labels, and nothing is ever run."""

import re
from itertools import pairwise

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.caller import Caller
from prompts import templates
from prompts.exceptions import LabelNotFound, TemplateError, TemplateNotFound, VersionNotFound
from prompts.markup import Include, Value, parse, place
from prompts.models import PromptLabel, PromptVersion
from prompts.rendering import MOST_BYTES, forget_versions, parsed, render
from prompts.tests.factories import a_template
from prompts.variables import Variable, declared

fuzz = settings(
    max_examples=150, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
HOSTILE = [
    "{{ a }}",
    "{{",
    "}}",
    "{{> b }}",
    "{% if %}",
    "\\",
    "\\{{",
    "{{ x.__class__ }}",
    "{",
    "}",
    "%",
    "\n",
    "\x00",
]
texts = st.lists(st.one_of(st.sampled_from(HOSTILE), st.text(max_size=5)), max_size=8).map("".join)
values = st.fixed_dictionaries({"a": texts, "b": texts})
# A template as a list of what stands in it: a text as it is meant, or a variable.
meant = st.lists(st.one_of(texts.map(lambda text: ("text", text)), st.sampled_from([("value", "a"), ("value", "b")])))


BRACES = re.compile(r"(\\*)(?:(\{?)((?:\{\{)+)(?!\{)|\{%)")


def escaped(match):
    """Each pair of braces gets a backslash; those that stand before it are doubled."""
    backslashes, lone, pairs = match.groups()
    if pairs is None:
        return backslashes * 2 + r"\{%"
    return (backslashes + lone if lone else backslashes * 2) + r"\{{" * (len(pairs) // 2)


def written(parts):
    """The source of a template that means those parts."""
    source = ""
    for (kind, what), (after, _text) in pairwise([*parts, ("end", "")]):
        if kind == "value":
            source += "{{ " + what + " }}"
            continue
        text = BRACES.sub(escaped, what)
        source += re.sub(r"(\\+)$", lambda match: match[1] * 2, text) if after == "value" else text
    return source


def can_be_written(parts):
    """Not two texts in a row, which would melt together, nor two braces right before a value."""
    return not any(
        kind == "text" and (after == "text" or (after == "value" and what.endswith("{{")))
        for (kind, what), (after, _text) in pairwise([*parts, ("end", "")])
    )


@fuzz
@given(parts=meant.filter(can_be_written), given_values=values)
def test_what_is_rendered_is_what_was_meant(parts, given_values):
    body = parsed(written(parts), ())

    found = "".join(given_values[p.name] if isinstance(p, Value) else p for p in body.texts[0])

    assert found == "".join(given_values[what] if kind == "value" else what for kind, what in parts)


def test_no_value_changes_the_structure(alice):
    content = [{"role": "system", "content": "<{{ a }}|{{ b }}>"}, {"role": "user", "content": "{{ b }}{{ a }}"}]
    a_template(alice, content, name="two")

    @fuzz
    @given(given_values=values)
    def put_in(given_values):
        a, b = given_values["a"], given_values["b"]
        messages = render(owner_id=alice.pk, name="two", variables=given_values).messages
        assert messages == [{"role": "system", "content": f"<{a}|{b}>"}, {"role": "user", "content": b + a}]

    put_in()


@fuzz
@given(source=st.one_of(texts, st.text()))
def test_any_text_is_read_or_refused_with_its_place(source):
    refusal = None
    try:
        pieces = parse(source)
    except TemplateError as error:
        refusal, pieces = error, ()
    assert refusal is None or refusal.code in {"code_not_allowed", "unclosed_placeholder", "invalid_placeholder"}
    assert refusal is None or re.search(r"line \d+, column \d+", str(refusal))
    for piece in pieces:
        assert piece if isinstance(piece, str) else source.startswith("{{", piece.at)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a {{ x }} b", ["a ", "x", " b"]),
        ("{{x}}{{x}}", ["x", "x"]),
        (r"\{{ x }}", ["{{", " x }}"]),
        (r"\\{{ x }}", ["\\", "x"]),
        (r"\{% raw %}", ["{%", " raw %}"]),
        ('{ "json": {"a": 1} }', ['{ "json": {"a": 1} }']),
        ("{{{ x }}}", ["{", "x", "}"]),
        (r"{\{{ x }}", ["{", "{{", " x }}"]),
        ("{{> part }}", ["part@production"]),
        ("{{> part.two@staging }}{{>part@3}}", ["part.two@staging", "part@3"]),
    ],
)
def test_the_language(source, expected):
    pieces = parse(source)

    shown = {Value: lambda piece: piece.name, Include: lambda piece: piece.reference, str: str}
    assert [shown[type(piece)](piece) for piece in pieces] == expected
    assert place("ab\ncd", 4) == "line 2, column 2"


@pytest.mark.parametrize(
    "inner",
    [
        *("x.__class__", "x|upper", "x()", "x[0]", "", "1x", "ünï", "x y", "> ", "> Part", "> a@", "> a@0", "> ../a"),
        *("{ x }} {{ ", "x\0", "> a@b@c", "%"),
    ],
)
def test_there_is_nothing_else_in_it(inner):
    with pytest.raises(TemplateError) as refusal:
        parse("{{" + inner + "}}")
    assert refusal.value.code == "invalid_placeholder"


@pytest.mark.parametrize(
    ("variable", "value", "text"),
    [
        (Variable("v"), "", ""),
        (Variable("v"), 1, None),
        (Variable("v", "integer"), 10**18, str(10**18)),
        (Variable("v", "integer"), True, None),
        (Variable("v", "integer"), 1.0, None),
        (Variable("v", "integer"), 1e30, None),
        (Variable("v", "number"), 1.5, "1.5"),
        (Variable("v", "number"), 2**64 - 1, str(2**64 - 1)),
        (Variable("v", "number"), 1.2345678901234568e22, None),
        (Variable("v", "number"), float("nan"), None),
        (Variable("v", "boolean"), False, "false"),
        (Variable("v", "boolean"), 0, None),
        (Variable("v", "enum", choices=("a", "b")), "b", "b"),
        (Variable("v", "enum", choices=("a", "b")), "c", None),
        (Variable("v", "list"), ["a", "b"], "a, b"),
        (Variable("v", "list"), ["a", 1], None),
        (Variable("v", "list"), "ab", None),
    ],
)
def test_types(variable, value, text):
    if text is None:
        with pytest.raises(TemplateError) as refusal:
            variable.text(value, param="variables.v")
        assert (refusal.value.code, refusal.value.param) == ("invalid_type", "variables.v")
    else:
        assert variable.text(value, param="") == text
    assert declared([variable.as_json()]) == (variable,)


@pytest.mark.parametrize(
    ("variables", "code", "param"),
    [
        ({}, "missing_variable", "variables.who"),
        ({"who": None}, "missing_variable", "variables.who"),
        ({"who": "x", "other": "y"}, "unknown_variable", "variables.other"),
        ({"who": ["x"]}, "invalid_type", "variables.who"),
        ({"who": "x" * MOST_BYTES}, "too_large", "content"),
    ],
)
def test_values_that_do_not_fit_are_refused(alice, variables, code, param):
    a_template(alice, "Hello {{ who }}", name="hello")

    with pytest.raises(TemplateError) as refusal:
        render(owner_id=alice.pk, name="hello", variables=variables)

    assert (refusal.value.code, refusal.value.param) == (code, param)


def test_nothing_is_given_by_null(alice):
    variables = [{"name": "tone", "default": "kind"}, {"name": "more", "required": False}]
    a_template(alice, "Be {{ tone }}{{ more }}.", name="tone", variables=variables)

    assert render(owner_id=alice.pk, name="tone", variables={"tone": None, "more": None}).text == "Be kind."


def test_the_size_is_that_of_the_text_itself(alice):
    a_template(alice, "\n" * (MOST_BYTES - 10) + " {{ who }}", name="lines")

    assert len(render(owner_id=alice.pk, name="lines", variables={"who": "é" * 4 + "."}).text) == MOST_BYTES - 4
    with pytest.raises(TemplateError):
        render(owner_id=alice.pk, name="lines", variables={"who": "é" * 5})


def test_what_does_not_exist(alice, bob):
    a_template(alice, "Hello", name="hello")

    for user, target, error in (
        (bob, {}, TemplateNotFound),
        (alice, {"label": "staging"}, LabelNotFound),
        (alice, {"version": 2}, VersionNotFound),
    ):
        with pytest.raises(error):
            render(owner_id=user.pk, name="hello", variables={}, **target)


def move(template, number, label="production"):
    owner = Caller(user_id=template.user_id)
    templates.move_label(template=template, label=label, number=number, by=owner)


def add(template, content):
    return templates.add_version(template=template, by=Caller(user_id=template.user_id), content=content)


def test_includes_follow_their_labels_and_share_the_variables(alice):
    tone = a_template(alice, "Be {{ tone }}.", name="tone", variables=[{"name": "tone", "default": "kind"}])
    a_template(alice, "{{> tone }} Twice: {{> tone@production }} Pinned: {{> tone@1 }} For {{ who }}.", name="all")

    def text(**values):
        return render(owner_id=alice.pk, name="all", variables=values).text

    assert text(who="Ada") == "Be kind. Twice: Be kind. Pinned: Be kind. For Ada."
    add(tone, "Stay {{ tone }}.")
    move(tone, 2)
    assert text(who="{{> tone }}", tone="calm") == "Stay calm. Twice: Stay calm. Pinned: Be calm. For {{> tone }}."


def test_what_a_shared_template_includes_nobody_can_put_something_else_under(alice, olga):
    a_template(olga, "rules", name="rules", is_shared=True)
    a_template(olga, "{{> rules }}", name="house", is_shared=True)
    a_template(alice, "no rules", name="rules")

    assert render(owner_id=alice.pk, name="house", variables={}).text == "rules"


def test_a_circle_is_refused_when_it_would_close_and_where_it_has_closed(alice):
    a = a_template(alice, "a", name="a")
    b = a_template(alice, "{{> a }}", name="b")
    c = a_template(alice, "{{> b }}", name="c")

    with pytest.raises(TemplateError) as refusal:
        add(a, "{{> c }}")
    assert refusal.value.code == "include_cycle"
    # What two label moves at the same moment could bring about.
    rogue = PromptVersion.objects.create(template=a, number=9, content="{{> c }}", includes=["c@production"])
    PromptLabel.objects.filter(template=a).update(version=rogue)
    for name in (a.name, b.name, c.name):
        with pytest.raises(TemplateError) as refusal:
            render(owner_id=alice.pk, name=name, variables={})
        assert refusal.value.code == "include_cycle"


def test_includes_nest_ten_deep_and_no_deeper(alice):
    a_template(alice, "bottom", name="level-0")
    for level in range(1, 11):
        a_template(alice, f"{{{{> level-{level - 1} }}}}" * 2, name=f"level-{level}")

    assert render(owner_id=alice.pk, name="level-10", variables={}).text == "bottom" * 1024
    with pytest.raises(TemplateError) as refusal:
        a_template(alice, "{{> level-10 }}", name="level-11")
    assert refusal.value.code == "include_too_deep"


def test_what_grows_too_large_is_refused_before_it_is_made(alice):
    a_template(alice, "x" * 30_000, name="wide-0")
    for level in range(1, 4):
        a_template(alice, f"{{{{> wide-{level - 1} }}}}" * 50, name=f"wide-{level}")

    with pytest.raises(TemplateError) as refusal:
        render(owner_id=alice.pk, name="wide-3", variables={})
    assert refusal.value.code == "too_large"


def test_one_statement_when_the_versions_are_known_two_when_not(alice):
    a_template(alice, "part", name="part")
    a_template(alice, "{{> part }}", name="whole")

    def statements():
        with CaptureQueriesContext(connection) as captured:
            assert render(owner_id=alice.pk, name="whole", variables={}).text == "part"
        return len(captured)

    forget_versions()
    assert [statements(), statements()] == [2, 1]
