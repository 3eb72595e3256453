"""The import contract knows every application that is installed. `make lint` holds the code to it."""

import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest
from django.apps import apps
from django.conf import settings

ROOT = Path(settings.BASE_DIR)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LINTER = PROJECT["tool"]["importlinter"]
OWN = [config.name for config in apps.get_app_configs() if Path(config.path).parent == ROOT]
ORDER = ["config", "analytics", "conversations", "prompts", "inference", "quotas", "accounts"]


def contracts(kind):
    return [contract for contract in LINTER["contracts"] if contract["type"] == kind]


def test_the_applications_are_those_of_the_design():
    assert sorted(OWN) == sorted(ORDER)


def test_the_order_between_applications_is_the_designs():
    (between,) = [contract for contract in contracts("layers") if "containers" not in contract]

    assert between["layers"] == ORDER
    assert sorted(LINTER["root_packages"]) == sorted(OWN)
    assert not between.get("ignore_imports")


def test_the_order_inside_an_application_holds_in_all_of_them():
    (inside,) = [contract for contract in contracts("layers") if "containers" in contract]

    assert sorted(inside["containers"]) == sorted(set(OWN) - {"config"})
    assert not inside.get("ignore_imports")
    layers = [layer.replace("(", "").replace(")", "").split(" | ") for layer in inside["layers"]]
    assert layers == [
        ["urls", "admin", "management"],
        ["views"],
        ["serializers", "authentication", "throttling", "tasks"],
        ["services"],
        ["models"],
        ["exceptions"],
    ]


@pytest.mark.parametrize("layer", ["services", "models"])
def test_no_service_and_no_model_may_know_the_framework_or_the_queue(layer):
    (forbidden,) = contracts("forbidden")

    assert set(forbidden["forbidden_modules"]) == {"rest_framework", "celery"}
    for app in set(OWN) - {"config"}:
        if find_spec(f"{app}.{layer}"):
            assert f"{app}.{layer}" in forbidden["source_modules"]


def test_types_tests_and_coverage_reach_every_application():
    assert set(PROJECT["tool"]["mypy"]["packages"]) == set(OWN)
    assert set(PROJECT["tool"]["coverage"]["run"]["source"]) == set(OWN)
    assert set(PROJECT["tool"]["pytest"]["ini_options"]["testpaths"]) == {*OWN, "tests"}
