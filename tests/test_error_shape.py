"""Every error, on every path and whoever causes it, has the one shape, and none of them is our own fault."""

import itertools

import pytest
from django.core.exceptions import SuspiciousOperation
from django.db import DatabaseError, InterfaceError, OperationalError
from django.urls import path
from rest_framework import exceptions as drf
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.tests.factories import UserFactory
from config import urls
from tests.routes import METHODS, admin_routes, all_routes
from tests.shape import error_of

ZEROS = "00000000-0000-0000-0000-000000000000"
ME = "/api/v1/users/me"
WRITES = [
    *(("POST", "/api/v1/users"), ("POST", "/api/v1/auth/token"), ("POST", "/api/v1/auth/token/refresh")),
    *(("PUT", ME), ("PATCH", ME), ("POST", f"{ME}/api-keys"), ("POST", "/api/v1/quotas/check")),
    *(("POST", "/api/v1/quotas/usage"), ("POST", "/api/v1/quotas/reservations")),
    *(("POST", "/api/v1/prompts/saved"), ("POST", "/api/v1/conversations")),
]

pytestmark = pytest.mark.django_db


def deep(levels):
    return b'{"a":' * levels + b"1" + b"}" * levels


BAD_BODIES = {
    "not JSON": (b"{'email': 1}", "invalid_json"),
    "cut off": (b'{"email": "a@b.c', "invalid_json"),
    "two values": (b"{} {}", "invalid_json"),
    "a comment": (b"{/* */}", "invalid_json"),
    "not a number": (b'{"email": NaN}', "invalid_json"),
    "infinity": (b'{"email": Infinity}', "invalid_json"),
    "a number without end": (b'{"email": 1e999}', None),
    "invalid UTF-8": (b'{"email": "\xff\xfe"}', "invalid_json"),
    "UTF-16": ('{"email": "a"}'.encode("utf-16"), "invalid_json"),
    "a lone surrogate": (rb'{"email": "\ud800"}', "invalid_json"),
    "a raw NUL": (b'{"email": "a\x00b"}', "invalid_json"),
    "an escaped NUL": (rb'{"email": "a\u0000b"}', "nul_character"),
    "an escaped NUL in a name": (rb'{"a\u0000b": 1}', "nul_character"),
    "fifty levels of objects": (deep(50), "json_too_deep"),
    "fifty levels of lists": (b"[" * 50 + b"]" * 50, "json_too_deep"),
    "levels without end": (b"[" * 100_000, None),
    "a hundred thousand levels": (b"[" * 100_000 + b"]" * 100_000, None),
}


# 404 and 405 -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_an_unknown_address_is_not_found(api, method):
    for address in (
        *("/v1", "/v1/", "/v1/nothing", "/v1/chat", "/v1/chat/completions/more", "/api", "/api/", "/api/v1"),
        *("/api/v1/", "/api/v1/nothing", "/api/v1/users/you", f"{ME}/nothing", "/api/v1/requests/7", "/api/v2/users"),
        *("/nothing", "/api/schema/", "/favicon.ico", "/static/none.js", "/.env", "/wp-login.php", "/healthz/x"),
        *("/%00", "/a%00b", "/api/v1/%00", "/v1/%00", "/v1/models/%00", "/api/v1/plans/%00", "/%ff%fe", "/é"),
        *("/..%2f..%2fetc/passwd", "/api/v1//users", "/" + "x" * 4000),
    ):
        error = error_of(api().generic(method, address), 404)
        assert (error["type"], error["code"]) == ("not_found_error", "not_found"), address


def test_a_row_that_does_not_exist_is_not_found(api, alice):
    for route in all_routes():
        if route.startswith("/api/") and "<pk>" in route:
            answer = api(alice).get(route.replace("<pk>", ZEROS))
            if answer.status_code != 405:
                assert error_of(answer, 404)["type"] == "not_found_error"


def test_a_method_that_an_address_does_not_take(api):
    tried = 0
    for route in all_routes():
        if route.startswith("/admin/"):
            continue
        address = route.replace("<pk>", ZEROS).replace("<slug>", "free").replace("<name>", "m")
        # Some calls end the account that makes them.
        someone = api(UserFactory())
        for method in (*METHODS, "OPTIONS", "TRACE", "BREW"):
            answer = someone.generic(method, address)
            if answer.status_code != 405:
                continue
            tried += 1
            error = error_of(answer)
            assert (error["type"], error["code"]) == ("invalid_request_error", "method_not_allowed")
            assert answer.headers["Allow"]
            # DRF lists OPTIONS always.
            assert method not in set(answer.headers["Allow"].split(", ")) - {"OPTIONS"}
    assert tried > 100


def test_the_admin_answers_people_with_pages(api, olga):
    client = api()
    client.force_login(olga)

    answer = client.get("/admin/nothing/")

    assert answer.status_code == 404
    assert answer.headers["Content-Type"].startswith("text/html")
    assert admin_routes()


# 401 and 403 -----------------------------------------------------------------------------------------------------


def test_nobody(api):
    error = error_of(api().get(ME), 401)

    assert (error["type"], error["code"]) == ("authentication_error", "missing_credentials")


@pytest.mark.parametrize("credential", ["nonsense", "msk_0_0", "a.b.c", "é", "msk_" + "x" * 9000])
def test_a_wrong_credential(api, credential):
    answer = api().get(ME, headers={"Authorization": f"Bearer {credential}"})

    assert error_of(answer, 401)["type"] == "authentication_error"


def test_what_is_for_operators(api, alice):
    error = error_of(api(alice).get("/api/v1/analytics/daily-stats"), 403)

    assert (error["type"], error["code"]) == ("permission_error", "permission_denied")


def test_a_form_without_its_csrf_token_is_a_page_at_the_admin(api, olga):
    client = api()
    client.force_login(olga)

    answer = client.post("/admin/logout/")

    assert answer.status_code == 403
    assert answer.headers["Content-Type"].startswith("text/html")


# Bodies ----------------------------------------------------------------------------------------------------------


@pytest.fixture(params=WRITES, ids=lambda write: " ".join(write))
def send(request, api, alice):
    """Sends a body to one of the addresses that read one."""
    method, address = request.param
    client = api(alice)

    def send_body(body, content_type="application/json"):
        return client.generic(method, address, body, content_type)

    send_body.needs_nothing = address == "/api/v1/conversations"
    return send_body


@pytest.fixture(params=["/v1/chat/completions", "/v1/embeddings"])
def send_to_road(request, transactional_db, api, alice):
    client = api(alice)
    return lambda body: client.generic("POST", request.param, body)


def test_a_body_that_cannot_be_read(send):
    for kind, (body, code) in BAD_BODIES.items():
        error = error_of(send(body), 400)
        assert error["type"] == "invalid_request_error"
        assert code in {error["code"], None}, kind


def test_a_body_that_cannot_be_read_on_the_road(send_to_road):
    for kind, (body, code) in BAD_BODIES.items():
        error = error_of(send_to_road(body), 400)
        assert code in {error["code"], None}, kind


NO_OBJECTS = [b"[]", b'"text"', b"3", b"true", b"[{}]", b"[[]]", b'[{"email": 1}]']


def test_a_body_that_is_no_object(send):
    for body in NO_OBJECTS if send.needs_nothing else [*NO_OBJECTS, b"null"]:
        error_of(send(body), 400)


def test_a_body_that_is_no_object_on_the_road(send_to_road):
    for body in (*NO_OBJECTS, b"null", b""):
        error_of(send_to_road(body), 400)


def test_a_body_that_is_not_called_json(send):
    form = "multipart/form-data; boundary=x"
    for content_type in ("text/plain", "application/x-www-form-urlencoded", form, "application/xml", "x", "/"):
        error = error_of(send(b'{"a": 1}', content_type), 415)
        assert (error["type"], error["code"]) == ("invalid_request_error", "unsupported_media_type")


def test_a_body_that_is_too_large(send, settings):
    settings.MAX_BODY_BYTES = settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000

    error = error_of(send(b'"' + b"x" * 1000 + b'"'), 413)

    assert (error["type"], error["code"]) == ("invalid_request_error", "request_too_large")


def test_a_body_that_is_too_large_on_the_road(send_to_road, settings):
    settings.MAX_BODY_BYTES = settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000

    assert error_of(send_to_road(b'"' + b"x" * 1000 + b'"'), 413)["code"] == "request_too_large"


def test_every_field_at_fault_is_named(api):
    error = error_of(api().post("/api/v1/users", {"email": "x", "full_name": "y" * 300}), 400)

    assert [(found["param"], found["code"]) for found in error["errors"]] == [
        ("email", "invalid"),
        ("password", "required"),
        ("full_name", "max_length"),
    ]


def test_a_field_within_a_list_is_named_by_its_place(api, alice):
    error = error_of(api(alice).post(f"{ME}/api-keys", {"name": "x", "scopes": ["read", "y" * 99]}), 400)

    assert error["param"] == "scopes.1"


# Queries ---------------------------------------------------------------------------------------------------------


LISTS = {
    f"{ME}/api-keys": ["format"],
    "/api/v1/quotas/reservations": ["status"],
    f"{ME}/usage": ["days"],
    "/api/v1/requests": [
        *("request_type", "status", "model", "prompt_version_id", "created_after", "created_before"),
    ],
    "/api/v1/prompts/saved": ["is_favourite", "scope", "collection", "tag", "ordering"],
    "/api/v1/prompts/collections": ["parent", "ordering"],
    "/api/v1/prompts/templates": ["is_shared", "tag"],
    "/api/v1/prompts/techniques": ["group"],
    "/api/v1/prompts/history": [
        *("intent", "technique", "rating", "thumbs", "used_it", "created_after", "created_before"),
    ],
    "/api/v1/conversations": ["channel", "is_active", "archived", "pinned", "tag", "last_activity_after", "unknown"],
    "/api/v1/conversations/search?q=hello": [
        *("q", "mode", "channel", "role", "model", "conversation", "created_after", "created_before"),
    ],
    "/api/v1/analytics/daily-stats": ["day", "day__gte", "day__lte", "model", "request_type"],
    "/api/v1/analytics/technique-effectiveness": ["intent", "technique"],
}
GARBAGE = [
    *(
        "x",
        "-1",
        "0",
        "99999999999999999999",
        "1.5",
        "\0",
        "a\0b",
        "é",
        "\U0001f4a9",
        "'",
        '"',
        "%",
        "null",
        "[]",
        "{}",
    ),
    *("true", " ", "x" * 3000, "../..", "' OR 1=1 --", "2026-13-45T99:99:99Z", "9999-12-31T23:59:59Z", ZEROS),
    *("0001-01-01T00:00:00%2B23:59", "cD1nYXJiYWdl", "cD0=", "bz0xMDAwMDAwMDAw", "cj0xJnA9Zm9v", "cD0lMDA=", "////"),
]


@pytest.mark.parametrize("address", LISTS)
def test_garbage_in_a_query_is_refused_or_passed_over(api, olga, address):
    client = api(olga)
    for garbage, name in itertools.product(GARBAGE, [*LISTS[address], "cursor", "limit"]):
        answer = client.get(address, {name: garbage})
        if answer.status_code != 200:
            assert answer.status_code in {400, 404}, (name, garbage)
            error_of(answer)


@pytest.mark.parametrize("accept", ["text/html", "application/xml", "image/png", "garbage", "", "*/*;q=0"])
def test_whatever_is_accepted_errors_are_json(api, accept):
    assert error_of(api().get(ME, headers={"Accept": accept}))


# Our own faults --------------------------------------------------------------------------------------------------

SECRET = "hunter2-postgresql-password"


class Broken(APIView):
    authentication_classes = ()
    permission_classes = ()

    def get(self, request, kind):
        secret = SECRET
        errors = {
            "python": ValueError(f"something with {secret}"),
            "database": DatabaseError(f"password={secret}"),
            "unavailable": drf.APIException(detail="the upstream said no"),
            "suspicious": SuspiciousOperation(secret),
            "down": OperationalError(f"connection failed: password={secret}"),
            "cut": InterfaceError(f"connection lost: password={secret}"),
        }
        raise errors[kind]

    def post(self, request, kind):
        return Response({("no", "name"): 1})


async def broken_async(request):
    raise RuntimeError(SECRET)


def broken_sync(request):
    return {}[SECRET]


class BrokenUrls:
    urlpatterns = [  # noqa: RUF012
        path("api/v1/broken/<kind>", Broken.as_view()),
        path("v1/broken", broken_async),
        path("broken", broken_sync),
        path("admin/broken", broken_sync),
        *urls.urlpatterns,
    ]
    handler400, handler403, handler404, handler500 = urls.handler400, urls.handler403, urls.handler404, urls.handler500


@pytest.fixture
def broken(settings, api):
    settings.ROOT_URLCONF = BrokenUrls
    return api(raise_request_exception=False)


@pytest.mark.parametrize("address", ["/api/v1/broken/python", "/api/v1/broken/database", "/v1/broken", "/broken"])
def test_a_fault_of_ours_says_nothing_but_that(broken, address):
    answer = broken.get(address)

    error = error_of(answer, 500)
    assert (error["type"], error["code"]) == ("api_error", "internal_error")
    for word in (SECRET, "Traceback", "File ", "ValueError", "site-packages"):
        assert word not in answer.content.decode()


@pytest.mark.parametrize("kind", ["down", "cut"])
def test_a_database_that_is_away_is_worth_another_try(broken, kind):
    answer = broken.get(f"/api/v1/broken/{kind}")

    error = error_of(answer, 503)
    assert (error["type"], error["code"]) == ("api_error", "service_unavailable")
    assert int(answer["Retry-After"]) > 0
    assert SECRET not in answer.content.decode()


def test_a_fault_at_the_admin_is_a_page_that_says_as_little(broken):
    answer = broken.get("/admin/broken")

    assert answer.status_code == 500
    assert answer.headers["Content-Type"].startswith("text/html")
    assert SECRET not in answer.content.decode()


def test_an_answer_that_cannot_be_written_is_a_fault_too(broken):
    assert error_of(broken.post("/api/v1/broken/x"), 500)["code"] == "internal_error"


def test_what_the_framework_calls_a_server_error_has_the_shape(broken):
    assert error_of(broken.get("/api/v1/broken/unavailable"), 500)["type"] == "api_error"


def test_what_django_calls_suspicious_is_a_bad_request(broken):
    error = error_of(broken.get("/api/v1/broken/suspicious"), 400)

    assert SECRET not in error["message"]


def test_a_host_that_is_not_ours_is_a_bad_request(api, alice):
    for _ in range(2):
        api(alice).post("/api/v1/conversations")

    error_of(api(alice).get("/api/v1/conversations", {"limit": 1}, headers={"Host": "evil.example"}), 400)
