"""The documents say what is true: the variables, the endpoints, the commands, the links and the licences."""

import ast
import importlib.metadata
import re
from pathlib import Path

import pytest
from asgiref.sync import async_to_sync, iscoroutinefunction
from django.core.management import get_commands
from django.test import RequestFactory
from django.urls import URLPattern, get_resolver

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
APPLICATIONS = ("config", "accounts", "quotas", "inference", "prompts", "conversations", "analytics")

# .env.example --------------------------------------------------------------------------------------------------------

READERS = {"env", "env_int", "env_bool", "env_list", "env_origins", "env_rate", "read_port"}
# What one part of `up` tells another, and what belongs to the system or to pytest. Nobody sets these by hand.
INTERNAL = {"DJANGO_SETTINGS_MODULE", "MAINSTAY_MODELS", "PATH", "PYTEST_XDIST_WORKER"}


def sources():
    for path in [ROOT / "manage.py", *(path for name in APPLICATIONS for path in sorted((ROOT / name).rglob("*.py")))]:
        if not {"tests", "migrations", "bench"} & set(path.relative_to(ROOT).parts):
            yield path


def variables_read():
    """Each variable that the source reads, with its default as it is written there; None where that is computed."""
    found = {}
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            name, default = read_by(node)
            if name is not None:
                found[name] = found.get(name) or default
    return found


def read_by(node):
    """The variable that `env("X", default)`, `os.environ.get("X", default)` or `os.environ["X"]` reads."""
    if isinstance(node, ast.Call) and ast.unparse(node.func) in {*READERS, "os.environ.get"}:
        name, *rest = node.args
        default = rest[0] if rest else None
    elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load) and ast.unparse(node.value) == "os.environ":
        name, default = node.slice, None
    else:
        return None, None
    return name.value if isinstance(name, ast.Constant) else None, value_of(default)


def value_of(node):
    if isinstance(node, ast.BinOp):
        left, right = value_of(node.left), value_of(node.right)
        return left * right if left and right and isinstance(node.op, ast.Mult) else None
    return node.value if isinstance(node, ast.Constant) else None


def example():
    """The variables of .env.example, each with the comment above it and the value beside it."""
    found, comment = {}, ""
    for line in (ROOT / ".env.example").read_text().splitlines():
        if match := re.fullmatch(r"(?:# )?([A-Z][A-Z0-9_]+)=(.*)", line):
            found[match[1]] = (comment, match[2])
            comment = ""
        else:
            comment = line if line.startswith("# ") else ""
    return found


def test_the_example_names_every_variable_that_is_read_and_no_other():
    of_compose = set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text()))
    assert set(example()) == (set(variables_read()) - INTERNAL) | of_compose


def test_the_example_says_of_every_variable_what_it_does():
    assert [name for name, (comment, _value) in example().items() if not comment] == []


def test_the_example_shows_the_defaults():
    wrong = {}
    for name, default in variables_read().items():
        shown = example()[name][1] if name in example() else ""
        if default not in (None, "") and shown != (str(default).lower() if isinstance(default, bool) else str(default)):
            wrong[name] = (shown, default)
    assert wrong == {}


# README --------------------------------------------------------------------------------------------------------------


def routes():
    """Each path of the API with its methods, as the URL configuration has them."""
    found = {}
    for path, pattern in walk(get_resolver().url_patterns, "/"):
        if path == "/" or path.startswith("/admin"):
            continue
        found.setdefault(path, set()).update(methods_of(pattern.callback))
    return found


def walk(patterns, prefix):
    for pattern in patterns:
        path = prefix + as_template(str(pattern.pattern))
        if isinstance(pattern, URLPattern):
            yield path.rstrip("/") or "/", pattern
        else:
            yield from walk(pattern.url_patterns, path)


def as_template(pattern):
    """A Django pattern as people write it: `^plans/(?P<slug>[^/.]+)/?\\Z` is `plans/{slug}`."""
    text = re.sub(r"\(\?P<(\w+)>(?:[^()]|\([^()]*\))*\)", r"{\1}", pattern)
    text = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", text)
    text = text.replace("{pk}", "{id}").removeprefix("^").removesuffix("\\Z").removesuffix("$").removesuffix("/?")
    assert not re.search(r"[\\^$?(]", text), f"{pattern} is not understood"
    return text


def methods_of(view):
    if actions := getattr(view, "actions", None):
        return {method.upper() for method in actions if method != "head"}  # which DRF adds at the first request
    if view_class := getattr(view, "view_class", None):
        return {method.upper() for method in ("get", "post") if hasattr(view_class, method)}
    if view.__module__ in ("config.health", "config.metrics"):  # GET and HEAD
        return {"GET"}
    view = async_to_sync(view) if iscoroutinefunction(view) else view
    refusal = view(RequestFactory().generic("TRACE", "/"))
    return set(refusal.headers["Allow"].split(", "))


def test_the_readme_lists_every_endpoint_and_no_other():
    rows = re.findall(r"^\| ([A-Z, ]+) \| `(/[^`]*)` \|", README, re.MULTILINE)
    listed = {path: set(methods.split(", ")) for methods, path in rows}
    assert len(listed) == len(rows), "an endpoint is listed twice"
    assert listed == routes()


def test_the_readme_opens_with_the_two_commands():
    assert re.findall(r"^make \w+", README, re.MULTILINE)[:2] == ["make run", "make test"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_that_are_named_exist(page):
    text = page.read_text()
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:^|`|PORT=\d+ )make (\w+)", text, re.MULTILINE)) <= targets
    assert set(re.findall(r"manage\.py (\w+)", text)) <= {*get_commands(), "help"}


def test_the_readme_lists_every_command_of_ours():
    table = README.partition("\n| command | |\n")[2].partition("\n\n")[0]
    listed = re.findall(r"^\| `(\w+)", table, re.MULTILINE)
    assert sorted(listed) == sorted(name for name, app in get_commands().items() if app in APPLICATIONS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)]+)\)", prose):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


def anchors(page):
    """The anchors that the headings of a page get."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_index_links_every_page():
    index = (ROOT / "docs" / "README.md").read_text()
    pages = [str(page.relative_to(ROOT / "docs")) for page in PAGES[1:] if page.name != "README.md"]
    assert [page for page in pages if f"]({page})" not in index] == []


# Licences ------------------------------------------------------------------------------------------------------------


def test_the_licence_of_every_package_is_named():
    rows = re.findall(r"^\| ([\w-]+)[^|]* \| ([^|]+) \|", (ROOT / "docs/licences.md").read_text(), re.MULTILINE)
    named = {package: licence for package, licence in rows if package != "package"}
    assert set(named) == set(required())
    for package, licence in named.items():
        metadata = importlib.metadata.metadata(package)
        if expression := metadata.get("License-Expression"):
            assert licence == expression


def required():
    for name in ("requirements.txt", "requirements/local.txt", "requirements/weights.txt"):
        for line in (ROOT / name).read_text().splitlines():
            if line and not line.startswith("#"):
                yield re.match(r"[\w.-]+", line)[0]
