"""/api/schema says what the API does, and /api/docs shows it without the world outside."""

import re

import pytest
from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.validation import validate_schema

from tests.test_permission_matrix import ROWS

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def schema():
    return SchemaGenerator().get_schema(request=None, public=True)


def test_it_is_valid_openapi_and_made_without_warnings():
    GENERATOR_STATS.reset()
    schema = SchemaGenerator().get_schema(request=None, public=True)

    validate_schema(schema)
    GENERATOR_STATS.emit_summary()
    assert not GENERATOR_STATS, "see above"


def operations(schema):
    """By method and path with nameless parameters, as the permission matrix can be asked for them."""
    return {
        (method.upper(), nameless(path)): operation
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
    }


def nameless(path):
    return re.sub(r"\{.+?\}|<.+?>", "<>", path).rstrip("/")


MATRIX = {(row.values[0], nameless(row.values[1])): row.values[2] for row in ROWS}


def test_it_describes_every_endpoint_and_no_other(schema):
    assert operations(schema).keys() == {route for route in MATRIX if route[1].startswith(("/api/v1/", "/v1/"))}


def test_a_chat_needs_messages_or_a_prompt(schema):
    body = operations(schema)["POST", "/v1/chat/completions"]["requestBody"]["content"]["application/json"]["schema"]

    assert body["required"] == ["model"]
    assert {"messages", "prompt"} <= body["properties"].keys()


def test_names_of_operations_are_unique(schema):
    names = [operation["operationId"] for methods in schema["paths"].values() for operation in methods.values()]

    assert len(names) == len(set(names))


def test_credentials_are_asked_for_where_they_are_needed(schema):
    for route, operation in operations(schema).items():
        if "/auth/" not in route[1]:
            needs_credentials = {} not in operation.get("security", [{}])
            assert needs_credentials == (MATRIX[route][0] == 401), route


@pytest.mark.parametrize("name", ["password", "key_hash", "stripe_customer_id", "holds", "is_superuser"])
def test_what_is_nobodys_business_is_in_no_answer(schema, name):
    for component, definition in schema["components"]["schemas"].items():
        if not component.endswith("Request"):
            properties = definition.get("properties", {})
            assert name not in properties or properties[name].get("writeOnly"), component


def test_it_is_served_as_yaml_and_as_json(api):
    assert api().get("/api/schema").status_code == 200
    answer = api().get("/api/schema", headers={"Accept": "application/vnd.oai.openapi+json"})
    assert answer.json()["info"]["title"] == "Mainstay"


@pytest.mark.parametrize("path", ["/api/docs", "/api/docs?script="])
def test_the_reference_refers_to_no_other_host(api, path):
    answer = api().get(path)

    assert answer.status_code == 200
    text = answer.content.decode()
    assert not re.findall(r"""(?:https?:)?//(?!\s)[\w.-]+\.\w{2,}""", text)
    assert "cdn" not in text


def test_everything_that_the_reference_refers_to_is_here(api):
    text = api().get("/api/docs").content.decode()

    found = re.findall(r"""(?:src|href)="([^"]+)\"""", text)
    assert len(found) >= 4
    for address in found:
        answer = api().get(address.replace("&amp;", "&"))
        assert answer.status_code == 200, address
        assert answer.content
