"""manage.py evaluate_intents"""

import orjson
import pytest
from django.core.management import CommandError, call_command

from inference.models import Model, Provider
from inference.stub import StubServer, answers
from prompts.models import IntentPattern
from prompts.tests.intents import INTENTS, strange_vector, vector


@pytest.fixture
def files(db, tmp_path, settings, monkeypatch):
    def vector_of(item, size=8):
        word, _, number = item.partition(" ")
        return list(map(float, strange_vector() if word == "odd" else vector(word, int(number or 0))))

    settings.EMBEDDING_MODEL = "vectors"
    monkeypatch.setattr(answers, "vector_of", vector_of)
    known = [f"{intent} {number},{intent}" for intent in INTENTS for number in range(6)]
    asked = [f"{intent} {number},{intent}" for intent in INTENTS for number in range(20, 23)]
    (tmp_path / "T.csv").write_text("\n".join(["text,intent", *known]))
    (tmp_path / "E.csv").write_text("\n".join(["text,intent", *asked]))
    (tmp_path / "O.csv").write_text("text\nodd 1\nodd 2\n")
    with StubServer() as stub:
        provider = Provider.objects.create(name="stub", base_url=stub.base_url)
        Model.objects.create(name="vectors", upstream_name="vectors", provider=provider, kind="embedding")
        yield tmp_path


def evaluate(files, *options, **changed):
    names = {"train": "T.csv", "test": "E.csv"} | changed
    call_command("evaluate_intents", *(f"--{name}={files / path}" for name, path in names.items()), *options)


def test_it_measures_and_touches_no_pattern(files, capsys):
    before = list(IntentPattern.objects.values_list("pk", "updated_at"))

    evaluate(files, "--json", oos="O.csv")

    result = orjson.loads(capsys.readouterr().out)
    assert (result["accuracy"], result["out_of_scope_auroc"], result["patterns"]) == (1.0, 1.0, 18)
    assert 0 <= result["calibration_error"] < 0.5
    assert list(IntentPattern.objects.values_list("pk", "updated_at")) == before
    evaluate(files)
    assert "accuracy              1.0000" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"text,intent\nalarm 1,\n,alarm\nalarm 2,alarm\n", "empty in line 2, 3"),
        (b"text\nalarm 1\n", "must name the columns text and intent"),
        (b"text,intent\n", "there are no rows"),
        (b"text,intent\nalarm 1,\xff\n", "Line 2: this is no CSV file in UTF-8"),
        (b'text,intent\n"a\nb",c\nx,"y\n', "Line 4: the row that begins here has a quote"),
        (b"text,intent\nalarm 1,alarm\nalarm, 2,alarm\n", "more cells than columns in line 3"),
        (b"text,intent\n" + b"x" * 10_001 + b",alarm\n", "more than 10,000 characters in line 2"),
        (b"text,intent\n" + b"x" * 200_000 + b",alarm\n", "more than 10,000 characters in line 2"),
        (b"text,intent\nalarm 1,alarm\nal\0arm,alarm\n", "NUL character in line 3"),
        (None, "No such file"),
        (b"text,intent\nalarm 1,alarm\n", "at least 2 intents"),
    ],
)
def test_a_bad_file_is_named_with_its_lines(files, content, says):
    if content is not None:
        (files / "bad.csv").write_bytes(content)

    with pytest.raises(CommandError, match=says):
        evaluate(files, train="bad.csv")


def test_a_seed_below_zero_is_refused_in_a_sentence(files):
    with pytest.raises(CommandError, match=r"^--seed is a whole number from 0\.$"):
        evaluate(files, "--seed", "-1")
