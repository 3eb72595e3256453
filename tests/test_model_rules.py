"""The rules that hold for all models and all modules."""

import ast
import re
from pathlib import Path

import pytest
from django.apps import apps
from django.conf import settings
from django.db import connection, models

ROOT = Path(settings.BASE_DIR)
ORDER = ["config", "analytics", "conversations", "prompts", "inference", "quotas", "accounts"]
OWN_MODELS = [model for model in apps.get_models() if model._meta.app_label in ORDER]
SOURCES = [path for app in ORDER for path in (ROOT / app).rglob("*.py") if "migrations" not in path.parts]
ALL_SOURCES = [*SOURCES, *(ROOT / "tests").rglob("*.py"), ROOT / "conftest.py", ROOT / "manage.py"]

# Rows that are written anew from others, such as roll-ups, and that nothing points at.
NUMBERED = {"analytics.dailystat", "prompts.documentembedding", "prompts.promptusage"}


def names(path):
    return str(path.relative_to(ROOT))


@pytest.mark.django_db
@pytest.mark.parametrize("model", OWN_MODELS, ids=lambda model: model._meta.label_lower)
class TestModels:
    def test_the_key_is_a_uuid_that_grows_with_time(self, model):
        if model._meta.label_lower in NUMBERED:
            assert not model._meta.related_objects
            return
        assert isinstance(model._meta.pk, models.UUIDField)
        first, second = model._meta.pk.get_default(), model._meta.pk.get_default()
        assert first.version == 7
        assert first < second

    def test_foreign_keys_point_down_the_order_of_the_apps(self, model):
        here = ORDER.index(model._meta.app_label)
        for field in model._meta.get_fields():
            if field.is_relation and not field.auto_created and field.related_model:
                there = field.related_model._meta.app_label
                assert there in {"auth", "contenttypes"} or ORDER.index(there) >= here, field

    def test_the_database_knows_every_state(self, model):
        for enum in vars(model).values():
            if not (isinstance(enum, type) and issubclass(enum, models.TextChoices)):
                continue
            fields = [field for field in model._meta.fields if field.choices == enum.choices]
            assert fields, f"{enum} is the choices of no field"
            for field in fields:
                known = {*enum.values, ""} if field.blank else set(enum.values)
                assert known in checked_values(model, field.column), field

    def test_rows_are_ordered_and_name_themselves(self, model):
        assert model._meta.ordering
        assert model.__str__ is not models.Model.__str__

    def test_a_text_is_null_only_where_its_absence_must_not_collide(self, model):
        for field in model._meta.fields:
            if isinstance(field, models.TextField | models.CharField) and field.null:
                alone = any(
                    [field.name] == constraint_fields(constraint)[-1:] for constraint in model._meta.constraints
                )
                assert field.unique or alone, field


def constraint_fields(constraint):
    return list(constraint.fields) if isinstance(constraint, models.UniqueConstraint) else []


def checked_values(model, column):
    """For each CHECK of the model's table that names the column alone: the texts in it."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_get_constraintdef(c.oid) FROM pg_constraint c WHERE c.contype = 'c' "
            "AND c.conrelid = %s::regclass AND c.conkey = (SELECT array_agg(attnum) FROM pg_attribute "
            "WHERE attrelid = c.conrelid AND attname = %s)",
            [model._meta.db_table, column],
        )
        return [set(re.findall(r"'([^']*)'::", definition)) for (definition,) in cursor.fetchall()]


def test_there_are_models_to_look_at():
    assert len(OWN_MODELS) > 12
    assert len(SOURCES) > 100


def test_names_of_constraints_and_indexes_say_whose_they_are():
    for model in OWN_MODELS:
        for named in [*model._meta.constraints, *model._meta.indexes]:
            assert named.name.startswith(f"{model._meta.model_name}_"), named


# Sources ---------------------------------------------------------------------------------------------------------


def test_no_file_is_longer_than_a_person_reads():
    assert [names(path) for path in ALL_SOURCES if len(path.read_text().splitlines()) >= 500] == []


def test_no_serializer_or_form_shows_whatever_there_is():
    def shows_all(node):
        targets = [getattr(target, "id", "") for target in node.targets]
        value = node.value.value if isinstance(node.value, ast.Constant) else None
        return targets == ["exclude"] or (targets == ["fields"] and value == "__all__")

    found = [(names(path), node.lineno) for path in SOURCES for node in nodes(path, ast.Assign) if shows_all(node)]
    assert found == []


def test_no_import_of_ours_hides_in_a_function():
    def modules(node):
        return [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]

    found = [
        (names(path), inner.lineno)
        for path in SOURCES
        if "tests" not in path.parts
        for function in nodes(path, ast.FunctionDef | ast.AsyncFunctionDef)
        for inner in ast.walk(function)
        if isinstance(inner, ast.Import | ast.ImportFrom)
        if {module.split(".")[0] for module in modules(inner)} & set(ORDER)
    ]
    assert found == []


# What these leave out needs a right that a machine may not give, or a browser that it may not have.
MAY_SKIP = {
    "conftest.py",
    "config/embedded/tests/test_servers.py",
    "config/embedded/tests/test_up.py",
    names(Path(__file__)),
}
SKIPS = re.compile(r"\b(?:pytest\.(?:skip|xfail|importorskip)|mark\.(?:skip|skipif|xfail))\b")


def test_no_test_is_skipped():
    assert {names(path) for path in ALL_SOURCES if SKIPS.search(path.read_text())} <= MAY_SKIP


def test_there_are_no_signal_handlers_and_no_junk_drawers():
    junk = {"signals.py", "utils.py", "helpers.py", "common.py", "core.py", "misc.py"}

    assert [names(path) for path in SOURCES if path.name in junk] == []


def nodes(path, kind):
    return [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kind)]
