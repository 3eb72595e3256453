"""Docker, as far as it can be checked without Docker: the files agree with each other, with the code and with `up`."""

import importlib.metadata
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from cryptography.fernet import Fernet
from django.core.management import get_commands
from django.urls import resolve
from packaging.requirements import Requirement

from config.embedded import parts, redis

ROOT = Path(__file__).resolve().parents[1]
COMPOSE = (ROOT / "docker-compose.yml").read_text()
SERVICES = yaml.safe_load(COMPOSE)["services"]
OURS = {"migrate", "web", "worker", "beat"}
SECRETS = {"SECRET_KEY", "JWT_SECRET_KEY", "FIELD_ENCRYPTION_KEYS", "POSTGRES_PASSWORD"}


def instructions(name):
    """The arguments of each Dockerfile instruction called `name`."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    return [line.removeprefix(name).strip() for line in text.splitlines() if line.startswith(f"{name} ")]


# docker-compose.yml --------------------------------------------------------------------------------------------------


def test_the_services_are_those_that_are_promised():
    assert set(SERVICES) == OURS | {"postgres", "redis", "pgadmin"}
    assert SERVICES["postgres"]["image"] == "pgvector/pgvector:pg16"
    assert SERVICES["redis"]["image"] == "redis:7"
    assert {SERVICES[name]["image"] for name in OURS} == {"mainstay"}


def test_only_the_published_ports_can_be_reached():
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {
        "web": ["${HOST:-127.0.0.1}:${PORT:-8000}:8000"],
        "postgres": ["127.0.0.1:5433:5432"],
        "pgadmin": ["127.0.0.1:8080:80"],
    }


def test_only_pgadmin_stands_behind_a_profile():
    assert {name for name, service in SERVICES.items() if "profiles" in service} == {"pgadmin"}


@pytest.mark.parametrize("name", sorted(OURS - {"migrate"}))
def test_our_processes_wait_for_the_stores_and_the_migrations(name):
    conditions = {other: wait["condition"] for other, wait in SERVICES[name]["depends_on"].items()}
    assert conditions == {
        "postgres": "service_healthy",
        "redis": "service_healthy",
        "migrate": "service_completed_successfully",
    }


def test_migrations_run_once():
    assert SERVICES["migrate"]["restart"] == "no"
    assert SERVICES["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}


def test_what_is_waited_for_has_a_health_check():
    assert {name for name, service in SERVICES.items() if service.get("healthcheck", {}).get("test")} == {
        "worker",
        "postgres",
        "redis",
    }
    # The web process has the image's own check; these two have nothing that could be asked.
    assert {name for name in OURS if SERVICES[name].get("healthcheck", {}).get("disable")} == {"migrate", "beat"}


def test_the_stores_keep_their_data_in_declared_volumes():
    used = {mount.partition(":")[0] for service in SERVICES.values() for mount in service.get("volumes", ())}
    assert used == set(yaml.safe_load(COMPOSE)["volumes"]) >= {"postgres", "redis"}


def test_redis_keeps_and_forgets_what_the_embedded_one_does():
    _, *options = shlex.split(SERVICES["redis"]["command"])
    chosen = {name.removeprefix("--"): value for name, value in zip(options[::2], options[1::2], strict=True)}
    assert chosen["appendonly"] == "yes"
    assert chosen.items() <= redis.SETTINGS.items()


def test_nothing_starts_without_secrets():
    required = set(re.findall(r"\$\{(\w+):\?", COMPOSE))
    assert required == SECRETS
    assert not re.findall(r"\$\{(?:\w*(?:SECRET|PASSWORD|KEY)\w*):-[^}]", COMPOSE), "a secret has a default"
    for name in OURS:
        assert SERVICES[name]["env_file"] == ".env"
        for variable in SECRETS:
            assert SERVICES[name]["environment"][variable].startswith(f"${{{variable}:?")


def test_every_variable_is_in_the_example():
    named = set(re.findall(r"^(?:# )?([A-Z0-9_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert set(re.findall(r"\$\{(\w+)", COMPOSE)) <= named


def test_the_example_fills_in_no_secret():
    given = dict(re.findall(r"^([A-Z0-9_]+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert given == dict.fromkeys(SECRETS, "")


def environment(**given):
    """What compose would give to the web process."""
    values = {"POSTGRES_USER": "mainstay", "POSTGRES_DB": "mainstay"} | given
    written = SERVICES["web"]["environment"]
    return {name: re.sub(r"\$\{(\w+)[^}]*\}", lambda m: values.get(m[1], ""), text) for name, text in written.items()}


def test_the_settings_understand_what_compose_gives_them():
    secrets = {"SECRET_KEY": "one", "JWT_SECRET_KEY": "two", "FIELD_ENCRYPTION_KEYS": Fernet.generate_key().decode()}
    ask = (
        "import django, json; django.setup(); from django.conf import settings; from config.health import *;"
        "database = settings.DATABASES['default'];"
        "print(json.dumps([database[name] for name in ('HOST', 'PORT', 'USER', 'PASSWORD', 'NAME')]"
        " + [settings.REDIS_URL, settings.CELERY_BROKER_URL, settings.DEBUG, default_secrets()]))"
    )
    env = environment(**secrets, POSTGRES_PASSWORD="three")
    assert ask_python(ask, env) == [
        *("postgres", "5432", "mainstay", "three", "mainstay"),
        *("redis://redis:6379/0", "redis://redis:6379/0", False, []),
    ]


# Dockerfile ----------------------------------------------------------------------------------------------------------


def test_the_image_runs_what_up_runs():
    assert json.loads(instructions("CMD")[-1]) == ["python", *parts.web_command("0.0.0.0", 8000, 2)[1:]]
    assert "command" not in SERVICES["web"]
    assert shlex.split(SERVICES["worker"]["command"]) == ["celery", *parts.worker().command[3:]]
    beat, up = shlex.split(SERVICES["beat"]["command"]), ["celery", *parts.beat().command[3:]]
    schedule = up.index("--schedule") + 1
    assert [*beat[:schedule], *beat[schedule + 1 :]] == [*up[:schedule], *up[schedule + 1 :]]


def test_the_commands_exist():
    scripts = {script.name: script.dist.name for script in importlib.metadata.entry_points(group="console_scripts")}
    assert {scripts["uvicorn"], scripts["celery"]} <= required_distributions()
    python, manage, command, *_ = shlex.split(SERVICES["migrate"]["command"])
    assert (python, manage) == ("python", "manage.py")
    assert command in get_commands()


def test_the_image_checks_readiness_and_is_not_root():
    (check,) = instructions("HEALTHCHECK")
    path = re.search(r"http://127\.0\.0\.1:8000(/\w+)", check)[1]
    assert resolve(path).func.__name__ == "ready"
    (user,) = instructions("USER")
    assert f" {user}" in next(run for run in instructions("RUN") if "useradd" in run)
    assert user not in {"root", "0"}


def test_what_the_image_copies_exists():
    for copied in instructions("COPY"):
        *sources, _target = copied.split()
        assert all((ROOT / source).exists() for source in sources), copied


def test_the_image_holds_the_applications_and_nothing_else():
    ignored = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert ignored[0] == "*"
    let_through = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    applications = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["root_packages"]
    assert let_through == {*applications, "manage.py", "requirements.txt", "templates"}
    assert all((ROOT / name).exists() for name in let_through)


def test_the_image_needs_no_package_but_those_of_requirements_txt():
    """Everything that web, worker and beat import, with all other packages of this environment out of sight."""
    inside = required_distributions()
    hidden = [
        module
        for module, distributions in importlib.metadata.packages_distributions().items()
        if not {canonical(name) for name in distributions} & inside
    ]
    answer = ask_python(IMPORTS, {"HIDDEN": json.dumps(hidden)} | environment(SECRET_KEY="one", JWT_SECRET_KEY="two"))
    assert answer == ["httptools", "uvloop"]


IMPORTS = """
import json, os, sys

hidden = set(json.loads(os.environ["HIDDEN"]))

class Partial:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in hidden else self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = map(Partial, sys.meta_path)

import django
django.setup()
from django.core.management import call_command
call_command("check")  # imports the URLs, and with them every view

import config.handlers, config.middleware
import celery.apps.beat, celery.apps.worker
from config.celery import app
app.loader.import_default_modules()
app.connection_for_write().transport

import uvicorn.loops.auto, uvicorn.protocols.http.auto
uvicorn.loops.auto.auto_loop_factory()
print(json.dumps(sorted({"httptools", "uvloop"} & set(sys.modules))))
"""


def required_distributions():
    """The distributions of requirements.txt with all that they require in turn."""
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    todo = [Requirement(line) for line in lines if line and not line.startswith("#")]
    found = {}
    while todo:
        requirement = todo.pop()
        name = canonical(requirement.name)
        if name in found and found[name] >= requirement.extras:
            continue
        found[name] = found.get(name, set()) | requirement.extras
        try:
            needs = importlib.metadata.requires(requirement.name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        for need in map(Requirement, needs):
            extras = requirement.extras | {""}
            if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in extras):
                todo.append(need)
    return set(found)


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def ask_python(script, env):
    """What a fresh interpreter without a data directory of ours prints, as JSON."""
    outside = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    fixed = {"DJANGO_SETTINGS_MODULE": "config.settings", "MAINSTAY_DATA_DIR": "/nonexistent"}
    result = subprocess.run(
        [sys.executable, "-c", script], env=outside | fixed | env, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])
