"""Who may do what: every route and method, tried by everybody.

By nobody, a stranger, the owner, a key of the owner's that has scopes but not the one that is asked for, and members of
staff in each role.
"""

import itertools

import pytest
from django.contrib.auth.models import Group, Permission
from django.test import Client
from django.test.client import ClientHandler
from django.utils import timezone

from accounts import tokens
from accounts.caller import Caller
from accounts.models import ApiKey, ChannelIdentity, Session
from accounts.roles import Role
from accounts.scopes import Scope
from accounts.tests.credentials import api_key
from accounts.tests.factories import PASSWORD, UserFactory
from conversations.models import Conversation
from conversations.tests.factories import a_conversation
from inference.models import Model, Provider, Request
from prompts import sharing
from prompts.models import Collection, SavedPrompt
from prompts.tests.enhance import improved
from prompts.tests.factories import a_template
from quotas import services as quotas
from quotas.meters import Meter
from tests.routes import METHODS, admin_routes, api_routes, api_views

#                                                    nobody stranger owner key operator support analyst
MATRIX = """
    GET    /                                                302    302    302    302    302    302    302
    GET    /admin                                           302    302    302    302    302    302    302
    GET    /healthz                                         200    200    200    200    200    200    200
    GET    /readyz                                          200    200    200    200    200    200    200
    GET    /metrics                                         404    404    404    404    404    404    404
    GET    /api/schema                                      200    200    200    200    200    200    200
    GET    /api/docs                                        200    200    200    200    200    200    200
    GET    /verify-email                                    400    400    400    400    400    400    400
    POST   /verify-email                                    403    403    403    403    403    403    403
    GET    /reset-password                                  400    400    400    400    400    400    400
    POST   /reset-password                                  403    403    403    403    403    403    403

    POST   /api/v1/users                                    201    201    201    201    201    201    201
    POST   /api/v1/auth/token                               200    200    200    200    200    200    200
    POST   /api/v1/auth/token/refresh                       401    401    401    401    401    401    401
    POST   /api/v1/auth/logout                              401    204    204    400    204    204    204
    POST   /api/v1/auth/logout-all                          401    204    204    403    204    204    204
    POST   /api/v1/auth/verify-email                        202    202    202    202    202    202    202
    POST   /api/v1/auth/password-reset                      202    202    202    202    202    202    202
    POST   /api/v1/auth/password-reset/confirm              400    400    400    400    400    400    400
    GET    /api/v1/users/me                                 401    200    200    403    200    200    200
    PUT    /api/v1/users/me                                 401    200    200    403    200    200    200
    PATCH  /api/v1/users/me                                 401    200    200    403    200    200    200
    DELETE /api/v1/users/me                                 401    204    204    403    204    204    204
    GET    /api/v1/users/me/export                          401    200    200    403    200    200    200
    POST   /api/v1/users/me/change-password                 401    204    204    403    204    204    204
    GET    /api/v1/users/me/preferences                     401    200    200    403    200    200    200
    PATCH  /api/v1/users/me/preferences                     401    200    200    403    200    200    200
    GET    /api/v1/users/me/api-keys                        401    200    200    403    200    200    200
    POST   /api/v1/users/me/api-keys                        401    201    201    403    201    201    201
    GET    /api/v1/users/me/api-keys/<pk>                   401    404    200    403    404    404    404
    DELETE /api/v1/users/me/api-keys/<pk>                   401    404    204    403    404    404    404
    POST   /api/v1/users/me/api-keys/<pk>/rotate            401    404    200    403    404    404    404
    GET    /api/v1/users/me/sessions                        401    200    200    403    200    200    200
    DELETE /api/v1/users/me/sessions/<pk>                   401    404    204    403    404    404    404
    GET    /api/v1/users/me/channels                        401    200    200    403    200    200    200
    POST   /api/v1/users/me/channels                        401    201    201    403    201    201    201
    DELETE /api/v1/users/me/channels                        401    400    400    403    400    400    400
    DELETE /api/v1/users/me/channels/<pk>                   401    404    204    403    404    404    404

    GET    /api/v1/plans                                    200    200    200    200    200    200    200
    GET    /api/v1/plans/<slug>                             200    200    200    200    200    200    200
    GET    /api/v1/users/me/quotas                          401    200    200    403    200    200    200
    GET    /api/v1/features                                 401    200    200    403    200    200    200
    GET    /api/v1/users/me/subscription                    401    200    200    403    200    200    200
    GET    /api/v1/users/me/api-keys/<pk>/budgets           401    404    200    403    404    404    404
    PUT    /api/v1/users/me/api-keys/<pk>/budgets           401    404    200    403    404    404    404
    POST   /api/v1/users/me/subscription/change             401    409    409    403    409    409    409
    POST   /api/v1/users/me/subscription/cancel             401    409    409    403    409    409    409
    POST   /api/v1/users/me/subscription/resume             401    409    409    403    409    409    409
    POST   /api/v1/billing/checkout-session                 401    501    501    403    501    501    501
    POST   /api/v1/billing/portal-session                   401    501    501    403    501    501    501
    POST   /api/v1/billing/webhook                          501    501    501    501    501    501    501
    POST   /api/v1/quotas/check                             401    200    200    403    200    200    200
    POST   /api/v1/quotas/usage                             401    201    201    403    201    201    201
    GET    /api/v1/quotas/reservations                      401    200    200    403    200    200    200
    POST   /api/v1/quotas/reservations                      401    201    201    403    201    201    201
    GET    /api/v1/quotas/reservations/<pk>                 401    404    200    403    404    404    404
    POST   /api/v1/quotas/reservations/<pk>/confirm         401    404    200    403    404    404    404
    POST   /api/v1/quotas/reservations/<pk>/release         401    404    200    403    404    404    404

    GET    /api/v1/requests                                 401    200    200    403    200    200    200
    GET    /api/v1/requests/<pk>                            401    404    200    403    404    404    404

    GET    /api/v1/prompts/saved                            401    200    200    403    200    200    200
    POST   /api/v1/prompts/saved                            401    201    201    403    201    201    201
    GET    /api/v1/prompts/saved/<pk>                       401    404    200    403    404    404    404
    PUT    /api/v1/prompts/saved/<pk>                       401    404    200    403    404    404    404
    PATCH  /api/v1/prompts/saved/<pk>                       401    404    200    403    404    404    404
    DELETE /api/v1/prompts/saved/<pk>                       401    404    204    403    404    404    404
    POST   /api/v1/prompts/saved/<pk>/move                  401    404    200    403    404    404    404
    POST   /api/v1/prompts/saved/<pk>/duplicate             401    404    201    403    404    404    404
    GET    /api/v1/prompts/saved/<pk>/links                 401    404    200    403    404    404    404
    POST   /api/v1/prompts/saved/<pk>/links                 401    404    201    403    404    404    404
    DELETE /api/v1/prompts/saved/<pk>/links/<link>          401    404    204    403    404    404    404
    GET    /api/v1/prompts/saved/export                     401    200    200    403    200    200    200
    POST   /api/v1/prompts/saved/import                     401    200    200    403    200    200    200
    GET    /api/v1/prompts/collections                      401    200    200    403    200    200    200
    POST   /api/v1/prompts/collections                      401    201    201    403    201    201    201
    GET    /api/v1/prompts/collections/<pk>                 401    404    200    403    404    404    404
    PATCH  /api/v1/prompts/collections/<pk>                 401    404    200    403    404    404    404
    DELETE /api/v1/prompts/collections/<pk>                 401    404    204    403    404    404    404
    POST   /api/v1/prompts/collections/<pk>/move            401    404    200    403    404    404    404
    POST   /api/v1/prompts/collections/<pk>/duplicate       401    404    201    403    404    404    404
    GET    /api/v1/prompts/collections/<pk>/links           401    404    200    403    404    404    404
    POST   /api/v1/prompts/collections/<pk>/links           401    404    201    403    404    404    404
    DELETE /api/v1/prompts/collections/<pk>/links/<link>    401    404    204    403    404    404    404
    GET    /api/v1/prompts/shared/<token>                   200    200    200    200    200    200    200
    POST   /api/v1/prompts/shared/<token>/duplicate         401    201    201    403    201    201    201
    GET    /api/v1/prompts/templates                        401    200    200    403    200    200    200
    POST   /api/v1/prompts/templates                        401    201    201    403    201    201    201
    GET    /api/v1/prompts/templates/<name>                 401    404    200    403    404    404    404
    PATCH  /api/v1/prompts/templates/<name>                 401    404    200    403    404    404    404
    DELETE /api/v1/prompts/templates/<name>                 401    404    204    403    404    404    404
    GET    /api/v1/prompts/templates/<name>/versions        401    404    200    403    404    404    404
    POST   /api/v1/prompts/templates/<name>/versions        401    404    201    403    404    404    404
    GET    /api/v1/prompts/templates/<name>/versions/<number>  401 404    200    403    404    404    404
    GET    /api/v1/prompts/templates/<name>/diff            401    404    200    403    404    404    404
    GET    /api/v1/prompts/templates/<name>/labels          401    404    200    403    404    404    404
    PUT    /api/v1/prompts/templates/<name>/labels/<label>  401    404    200    403    404    404    404
    DELETE /api/v1/prompts/templates/<name>/labels/<label>  401    404    204    403    404    404    404
    POST   /api/v1/prompts/templates/<name>/render          401    404    200    403    404    404    404
    POST   /api/v1/prompts/classify                         401    200    200    403    200    200    200
    POST   /api/v1/prompts/enhance                          401    200    200    403    200    200    200
    GET    /api/v1/prompts/techniques                       401    200    200    403    200    200    200
    GET    /api/v1/prompts/techniques/<name>                401    200    200    403    200    200    200
    GET    /api/v1/prompts/history                          401    200    200    403    200    200    200
    GET    /api/v1/prompts/history/<pk>                     401    404    200    403    404    404    404
    DELETE /api/v1/prompts/history/<pk>                     401    404    204    403    404    404    404
    POST   /api/v1/prompts/history/<pk>/feedback            401    404    200    403    404    404    404
    GET    /api/v1/prompts/search                           401    400    400    403    400    400    400
    POST   /api/v1/prompts/suggestions                      401    200    200    403    200    200    200

    GET    /api/v1/conversations                            401    200    200    403    200    200    200
    POST   /api/v1/conversations                            401    201    201    403    201    201    201
    GET    /api/v1/conversations/events                     401    200    200    403    200    200    200
    GET    /api/v1/conversations/<pk>                       401    404    200    403    404    404    404
    PUT    /api/v1/conversations/<pk>                       401    404    200    403    404    404    404
    PATCH  /api/v1/conversations/<pk>                       401    404    200    403    404    404    404
    DELETE /api/v1/conversations/<pk>                       401    404    204    403    404    404    404
    GET    /api/v1/conversations/<pk>/messages              401    404    200    403    404    404    404
    GET    /api/v1/conversations/<pk>/context               401    404    200    403    404    404    404
    POST   /api/v1/conversations/<pk>/reply                 401    404    404    403    404    404    404
    POST   /api/v1/conversations/<pk>/messages              401    404    201    403    404    404    404
    GET    /api/v1/conversations/<pk>/messages/<message_id> 401    404    200    403    404    404    404
    PATCH  /api/v1/conversations/<pk>/messages/<message_id> 401    404    201    403    404    404    404
    POST   /api/v1/conversations/<pk>/messages/<message_id>/regenerate 401 404 400 403 404 404 404
    POST   /api/v1/conversations/<pk>/archive               401    404    200    403    404    404    404
    POST   /api/v1/conversations/<pk>/unarchive             401    404    200    403    404    404    404
    POST   /api/v1/conversations/<pk>/pin                   401    404    200    403    404    404    404
    POST   /api/v1/conversations/<pk>/unpin                 401    404    200    403    404    404    404
    GET    /api/v1/conversations/<pk>/export                401    404    200    403    404    404    404
    GET    /api/v1/conversations/search                     401    400    400    403    400    400    400
    GET    /api/v1/conversations/export                     401    200    200    403    200    200    200
    POST   /api/v1/conversations/import                     401    201    201    403    201    201    201
    POST   /api/v1/conversations/<pk>/restore               401    404    200    403    404    404    404
    POST   /api/v1/channels/<name>/messages                 401    404    404    403    404    404    404
    GET    /api/v1/channels/<name>/active                   401    200    200    403    200    200    200

    GET    /api/v1/analytics/daily-stats                    401    403    403    403    200    403    200
    GET    /api/v1/analytics/technique-effectiveness        401    403    403    403    200    403    200
    GET    /api/v1/users/me/usage                           401    200    200    403    200    200    200
    GET    /api/v1/users/me/dashboard                       401    200    200    403    200    200    200

    GET    /v1/models                                       401    200    200    403    200    200    200
    GET    /v1/models/<name>                                401    200    200    403    200    200    200
    POST   /v1/chat/completions                             401    404    404    403    404    404    404
    POST   /v1/embeddings                                   401    404    404    403    404    404    404
    POST   /mcp                                             401    200    200    403    200    200    200
"""

# Of links in mails: one that does not exist. Their pages refuse what was not posted by themselves.
# Of billing: who is on the default plan has nothing to change, and without keys nothing is sold. What happens with them
# is shown in quotas/tests/test_billing_api.py.
# Of searches: one for nothing. What is found by whom is shown in prompts/tests/test_search_documents.py.
# Of the calls to models: a model that does not exist. What a model answers, and whose conversation may be named, is
# shown against a real server in test_openai_client.py.
AMOUNTS = {"amounts": {"llm.requests": 1}}
BUDGETS = [{"resource_type": "llm", "unit": "requests", "period": "day", "limit": 5}]
PROMPT = {"title": "Title", "content": "Content"}
number = itertools.count()
BODIES = {
    "POST /api/v1/users": lambda: {"email": f"new{next(number)}@example.com", "password": PASSWORD},
    "POST /api/v1/auth/token": lambda: {"email": "alice@example.com", "password": PASSWORD},
    "POST /api/v1/auth/token/refresh": lambda: {"refresh": "made up"},
    "POST /api/v1/auth/verify-email": lambda: {"email": "alice@example.com"},
    "POST /api/v1/auth/password-reset": lambda: {"email": "alice@example.com"},
    "POST /api/v1/auth/password-reset/confirm": lambda: {"token": "made up", "password": PASSWORD},
    "PUT /api/v1/users/me": lambda: {"email": f"new{next(number)}@example.com"},
    "POST /api/v1/users/me/api-keys": lambda: {"name": "key"},
    "POST /api/v1/users/me/change-password": lambda: {"current_password": PASSWORD, "new_password": f"{PASSWORD} new"},
    "PUT /api/v1/users/me/api-keys/<pk>/budgets": lambda: BUDGETS,
    "POST /api/v1/users/me/subscription/change": lambda: {"plan": "free"},
    "POST /api/v1/billing/checkout-session": lambda: {"plan": "pro"},
    "POST /api/v1/quotas/check": lambda: AMOUNTS,
    "POST /api/v1/quotas/usage": lambda: AMOUNTS,
    "POST /api/v1/quotas/reservations": lambda: AMOUNTS,
    "POST /api/v1/quotas/reservations/<pk>/confirm": lambda: AMOUNTS,
    "POST /api/v1/prompts/saved": lambda: PROMPT,
    "PUT /api/v1/prompts/saved/<pk>": lambda: PROMPT,
    "POST /api/v1/prompts/saved/import": lambda: [PROMPT],
    "POST /api/v1/prompts/collections": lambda: {"name": f"Collection {next(number)}"},
    "POST /api/v1/prompts/templates": lambda: {"name": f"template-{next(number)}", "content": "Hello"},
    "POST /api/v1/prompts/templates/<name>/versions": lambda: {"content": "Hello"},
    "PUT /api/v1/prompts/templates/<name>/labels/<label>": lambda: {"version": 1},
    "POST /api/v1/prompts/templates/<name>/render": lambda: {"variables": {"who": "Ada"}},
    "POST /api/v1/prompts/enhance": lambda: {"prompt": "Translate this sentence into French"},
    "POST /api/v1/prompts/history/<pk>/feedback": lambda: {"rating": 4},
    "POST /api/v1/conversations/import": lambda: {"messages": [{"role": "user", "content": "Hello"}]},
    "POST /api/v1/conversations/<pk>/reply": lambda: {"content": "Hello", "model": "none"},
    "POST /api/v1/conversations/<pk>/messages": lambda: {"content": "Hello"},
    "POST /api/v1/channels/<name>/messages": lambda: {"content": "Hello", "model": "none"},
    "PATCH /api/v1/conversations/<pk>/messages/<message_id>": lambda: {"content": "Hello again"},
    "POST /api/v1/prompts/classify": lambda: {"text": "Translate this sentence into French"},
    "POST /api/v1/prompts/suggestions": lambda: {"text": "Translate this sentence into French"},
    "POST /v1/chat/completions": lambda: {"model": "none", "messages": [{"role": "user", "content": "Hello"}]},
    "POST /mcp": lambda: {"jsonrpc": "2.0", "id": 1, "method": "prompts/list"},
    "POST /v1/embeddings": lambda: {"model": "none", "input": "Hello"},
}


# Their views work as those of /v1 do.
THREADED = {
    *("/api/v1/prompts/classify", "/api/v1/prompts/enhance"),
    *("/api/v1/prompts/search", "/api/v1/prompts/suggestions"),
    "/api/v1/conversations/<pk>/reply",
    "/api/v1/conversations/<pk>/messages/<message_id>/regenerate",
    *("/api/v1/channels/<name>/messages", "/api/v1/conversations/events"),
}


def rows():
    for line in filter(str.strip, MATRIX.splitlines()):
        method, path, *statuses = line.split()
        # The views of /v1 work in threads of their own, which see only what is committed.
        in_threads = path.startswith("/v1") or path in THREADED
        marks = [pytest.mark.django_db(transaction=True)] if in_threads else []
        yield pytest.param(method, path, [int(status) for status in statuses], id=f"{method} {path}", marks=marks)


ROWS = list(rows())
SCOPES = {path: view.scope for path, view in api_views()}


# Things that are nobody's.
NAMED = {"/v1/plans/": "free", "/v1/channels/": "telegram"}


def thing_of(user, path):
    """What the parameter of a path stands for, and is the user's."""
    if "/api-keys/" in path:
        api_key(user)
        return ApiKey.objects.get(user=user).pk
    if "/sessions/" in path:
        tokens.sign_in(user=user, ip=None, user_agent="")
        return Session.objects.get(user=user).pk
    named = next((name for part, name in NAMED.items() if part in path), None)
    if named is not None:
        return named
    if "/channels/" in path:
        return ChannelIdentity.objects.create(user=user, channel_type="discord", channel_user_id="1").pk
    if "/reservations/" in path:
        amounts = {Meter("llm", "requests"): 1}
        return quotas.reserve(user_id=user.pk, amounts=amounts, seconds=60, by_client=True).id
    if "/requests/" in path:
        return Request.objects.create(user=user, request_type="llm", model="m", created_at=timezone.now()).pk
    if "/prompts/" in path:
        return of_prompts(user, path)
    if "/conversations/" in path:
        return a_conversation(user, "Hello", deleted_at=timezone.now() if path.endswith("/restore") else None).pk
    if "/models/" in path:
        provider = Provider.objects.create(name="p", base_url="http://127.0.0.1:9/v1")
        return Model.objects.create(name="org/model", upstream_name="m", provider=provider).name
    raise AssertionError(path)


def saved_thing(user, path):
    """A saved prompt or a collection; if the path names a link, that, too."""
    thing = Collection if "/collections/" in path else SavedPrompt
    row = thing.objects.create(user=user, **({"name": "Name"} if thing is Collection else PROMPT))
    link, token = sharing.create_link(target=row, by=Caller(user_id=user.pk))
    if "<token>" in path:
        return token
    return f"{row.pk},{link.pk}" if "<link>" in path else row.pk


def of_prompts(user, path):
    if "/techniques/" in path:
        return "few_shot"
    if "/history/" in path:
        return improved(user).pk
    return a_template(user).name if "/templates/" in path else saved_thing(user, path)


def concrete(path, value):
    value, _comma, link = str(value).partition(",")
    path = path.replace("<link>", link or value).replace("<token>", value)
    path = path.replace("<number>", "1").replace("<label>", "production")
    if "<message_id>" in path:
        head = Conversation.objects.filter(pk=value).values_list("head", flat=True).first()
        path = path.replace("<message_id>", str(head or value))
    path = f"{path}?from=1&to=1" if path.endswith("/diff") else path
    return path.replace("<pk>", value).replace("<slug>", value).replace("<name>", value)


@pytest.mark.parametrize(("method", "path", "expected"), ROWS)
def test_who_may_do_what(api, alice, bob, staff, method, path, expected):
    body = BODIES.get(f"{method} {path}", dict)
    address = concrete(path, thing_of(alice, path)) if "<" in path else path
    key = api_key(alice, scopes=other_scopes(path))

    def status(who):
        return api(who).generic(method, address, body() if method != "GET" else "").status_code

    # The owner comes last: some calls end what they are about.
    found = {who: status(who) for who in (None, bob, key, *staff, alice)}

    assert [found[who] for who in (None, bob, alice, key, *staff)] == expected


@pytest.fixture
def staff(db):
    """An operator, somebody of support, and an analyst."""
    members = [UserFactory(is_staff=True) for _role in Role]
    for member, role in zip(members, (Role.OPERATOR, Role.SUPPORT, Role.ANALYST), strict=True):
        member.groups.add(Group.objects.get(name=role))
    return members


def other_scopes(path):
    """Those that do not open a path, nor let anybody read all."""
    scope = SCOPES.get(path)
    return [other.value for other in Scope if other not in (scope, Scope.READ, Scope.ACT_AS)]


@pytest.mark.parametrize(
    ("method", "path", "expected"), [row for row in ROWS if row.values[2][0] == 401 != row.values[2][1]]
)
def test_an_unknown_key_may_do_as_little_as_nobody(api, db, method, path, expected):
    address = concrete(path, "00000000-0000-0000-0000-000000000000")

    assert api("msk_" + "0" * 12 + "_" + "0" * 43).generic(method, address).status_code == 401


def test_every_route_and_method_is_in_the_table(api, db):
    listed = {(row.values[0], row.values[1]) for row in ROWS}
    answered = set()
    # The check against forged requests would answer before a page can say which methods it takes.
    unchecked = ClientHandler(enforce_csrf_checks=False)
    for path in api_routes():
        operator = api(UserFactory(is_staff=True, is_superuser=True))
        operator.handler = unchecked
        address = concrete(path, "00000000-0000-0000-0000-000000000000")
        for method in METHODS:
            if operator.generic(method, address).status_code != 405:
                answered.add((method, path))

    assert answered == listed


# The admin, by its prefix ----------------------------------------------------------------------------------------

OPEN_TO_ALL = {"/admin/login", "/admin/jsi18n"}


def admin_addresses():
    zeros = "00000000-0000-0000-0000-000000000000"
    for path in sorted(set(admin_routes()) - OPEN_TO_ALL):
        parts = [zeros if part.startswith("<") else part for part in path.split("/")]
        yield "/".join(parts)


def test_the_admin_sends_everybody_but_operators_to_its_login(alice, db):
    stranger = Client()
    stranger.force_login(alice)
    alice.user_permissions.set(Permission.objects.all())
    assert len(list(admin_addresses())) > 50

    for client in (Client(), stranger):
        for address in admin_addresses():
            for method in ("GET", "POST"):
                answer = client.generic(method, f"{address}/")
                assert answer.status_code in {302, 404}, (method, address, answer.status_code)
                if answer.status_code == 302:
                    target = answer["Location"]
                    assert target.startswith("/admin/login/") or target == "/admin/", (method, address, target)


def test_a_token_or_key_opens_no_page_of_the_admin(api, olga):
    for credential in (olga, api_key(olga)):
        assert api(credential).get("/admin/accounts/user/").status_code == 302
