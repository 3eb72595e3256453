"""Every page of the admin: who may see it, that it opens, and what a longer list costs."""

from collections.abc import Callable
from datetime import timedelta
from itertools import count

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, Permission
from django.db import connection
from django.db.models import Model as Row
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import services as accounts
from accounts import tokens
from accounts.caller import Caller
from accounts.models import ApiKey, AuditEvent, BlacklistedToken, ChannelIdentity, Session, User
from accounts.tests.factories import UserFactory
from analytics.models import DailyStat
from conversations.models import ChannelConfig, Conversation, Message
from inference.models import Model, Price, Provider, Request
from prompts import techniques
from prompts.models import (
    Collection,
    IntentClassifier,
    IntentPattern,
    PromptHistory,
    PromptTemplate,
    SavedPrompt,
    ShareLink,
    Technique,
    TechniqueEffectiveness,
)
from prompts.tests.enhance import improved
from prompts.tests.factories import a_template
from quotas.models import (
    Event,
    FeatureFlag,
    Grant,
    Plan,
    PlanLimit,
    Quota,
    Reservation,
    StripeEvent,
    Subscription,
    WebhookDelivery,
    WebhookEndpoint,
)
from quotas.tests.factories import (
    DeliveryFactory,
    EventFactory,
    FlagFactory,
    GrantFactory,
    PlanFactory,
    QuotaFactory,
    SubscriptionFactory,
)
from tests.admin import page

number = count()


def subscribed_user() -> User:
    return SubscriptionFactory(plan=Plan.objects.get(slug="pro")).user


def key() -> ApiKey:
    user = UserFactory()
    return accounts.create_api_key(user_id=user.pk, name="Test", by=user)[0]


def reservation() -> Reservation:
    return Reservation.objects.create(
        user=UserFactory(), amounts={"llm.tokens": 7}, holds={}, expires_at=timezone.now() + timedelta(hours=1)
    )


def provider() -> Provider:
    return Provider.objects.create(name=f"provider-{next(number)}", base_url="http://127.0.0.1:9/v1", api_key="sk-1")


def model() -> Model:
    return Model.objects.create(name=f"model-{next(number)}", provider=provider(), upstream_name="model")


def request() -> Request:
    return Request.objects.create(
        user=UserFactory(), api_key=key(), reservation=reservation(), request_type="llm", model="model"
    )


def conversation() -> Conversation:
    begun = Conversation.objects.create(user=UserFactory())
    Message.objects.create(conversation=begun, role="user", content="Hello", request=request())
    Message.objects.create(conversation=begun, role="assistant", content="Hello yourself", model_used="model")
    return begun


def session():
    tokens.sign_in(user=UserFactory(), ip="10.1.2.3", user_agent="Browser", device="laptop")
    return Session.objects.latest("id")


def subscription():
    """One of which every action is offered."""
    return SubscriptionFactory(next_plan=PlanFactory())


def stripe_event():
    names = {"stripe_id": f"evt_{next(number)}", "type": "invoice.paid", "customer_id": "cus_1"}
    return StripeEvent.objects.create(
        **names, payload={"id": "evt_1"}, status="ignored", reason="Nobody's.", created_at=timezone.now()
    )


def saved_prompt():
    user = UserFactory()
    folder = Collection.objects.create(user=user, name="Collection", description="What it is for")
    return SavedPrompt.objects.create(user=user, title="Title", content="Text", tags=["chat"], collection=folder)


def share_link():
    prompt = saved_prompt()
    return ShareLink.objects.create(
        user=prompt.user, prompt=prompt, prefix=f"{next(number):012}", token_hash=f"{next(number):064}"
    )


def technique():
    fields = {"slug": f"technique_{next(number)}", "title": "Technique", "description": "Asks again."}
    return techniques.add_technique(by=Caller(user_id=UserFactory().pk), template="{{ prompt }} Please.", **fields)


def effectiveness():
    improved(UserFactory(), techniques=[technique().slug])
    return TechniqueEffectiveness.objects.latest("id")


ROWS: dict[type[Row], Callable[[], Row]] = {
    User: subscribed_user,
    Group: lambda: Group.objects.create(name=f"group-{next(number)}"),
    ApiKey: key,
    AuditEvent: lambda: accounts.audit.record("something", by=UserFactory(), target=UserFactory()),
    Session: session,
    BlacklistedToken: lambda: BlacklistedToken.objects.create(
        jti=f"jti-{next(number)}", token_type="access", session=session(), reason="revoked", expires_at=timezone.now()
    ),
    ChannelIdentity: lambda: ChannelIdentity.objects.create(
        user=UserFactory(), channel_type="discord", channel_user_id=str(next(number))
    ),
    Plan: lambda: PlanFactory(limits={("llm", "tokens", "month"): 5, ("llm", "requests", "day"): 5}),
    PlanLimit: lambda: PlanFactory(limits={("llm", "tokens", "month"): 5}).limits.get(),
    Subscription: subscription,
    Quota: lambda: QuotaFactory(is_override=True),
    Grant: GrantFactory,
    Reservation: reservation,
    StripeEvent: stripe_event,
    FeatureFlag: lambda: FlagFactory(percentage=50, variants={"a": 1, "b": 2}),
    Event: EventFactory,
    WebhookEndpoint: lambda: DeliveryFactory().endpoint,
    WebhookDelivery: DeliveryFactory,
    Provider: provider,
    Model: model,
    Price: lambda: Price.objects.create(model=model(), unit="input_tokens", price=150_000),
    Request: request,
    Conversation: conversation,
    ChannelConfig: lambda: ChannelConfig.objects.create(name=f"channel-{next(number)}", credentials="token"),
    PromptTemplate: lambda: a_template(UserFactory(), tags=["chat"], description="Says hello."),
    SavedPrompt: saved_prompt,
    Collection: lambda: saved_prompt().collection,
    ShareLink: share_link,
    PromptHistory: lambda: improved(UserFactory()),
    Technique: technique,
    TechniqueEffectiveness: effectiveness,
    IntentPattern: lambda: IntentPattern.objects.create(intent="alarm", text=f"Wake me {next(number)}"),
    IntentClassifier: lambda: IntentClassifier.objects.create(version=next(number) + 1, status="failed"),
    DailyStat: lambda: DailyStat.objects.create(
        day=timezone.now().date() - timedelta(days=next(number)),
        request_type="llm",
        model="model",
        requests=3,
        errors=1,
    ),
}
all_models = pytest.mark.parametrize("model", ROWS, ids=lambda model: model._meta.label)


@pytest.fixture
def operator(client, olga):
    client.force_login(olga)
    return client


def test_the_table_of_rows_knows_every_page():
    assert set(admin.site._registry) == set(ROWS)


@all_models
def test_list_and_page_of_a_row_open_for_an_operator(operator, model):
    row = ROWS[model]()

    listed = operator.get(page(model, "changelist"))

    assert listed.status_code == 200
    assert page(row) in listed.content.decode()
    assert operator.get(page(row)).status_code == 200
    assert operator.get(page(model, "add")).status_code in {200, 403}


@all_models
def test_a_longer_list_takes_no_more_queries(operator, model):
    def queries_with(rows: int) -> int:
        while model.objects.count() < rows:
            ROWS[model]()
        with CaptureQueriesContext(connection) as captured:
            assert operator.get(page(model, "changelist")).status_code == 200
        return len(captured)

    queries_with(2)  # fills the cache of content types

    assert queries_with(2) == queries_with(12) <= 8


@pytest.mark.drill
@all_models
def test_search_and_an_id_find_rows(operator, model):
    row = ROWS[model]()

    for term in ("nobody@example.com", str(row.pk)):
        assert operator.get(page(model, "changelist"), {"q": term}).status_code == 200

    if "-" in str(row.pk):
        found = operator.get(page(model, "changelist"), {"q": str(row.pk)}).context["cl"].result_list
        assert row in found


@pytest.mark.drill
@all_models
def test_every_filter_filters(operator, model):
    ROWS[model]()
    changelist = operator.get(page(model, "changelist")).context["cl"]

    for spec in changelist.filter_specs:
        if isinstance(spec, admin.DateFieldListFilter):
            queries = [parameters for _title, parameters in spec.links]
        else:
            values = [value for value, _title in getattr(spec, "lookup_choices", [])] or ["1", "2026-01-01"]
            queries = [{name: value} for name in spec.expected_parameters() for value in values]
        for query in queries:
            # Django answers a senseless value by a redirect to the list without it.
            assert operator.get(page(model, "changelist"), query).status_code in {200, 302}, query


@all_models
def test_others_are_sent_to_the_login_or_refused(client, alice, model):
    row = ROWS[model]()
    addresses = [page(model, "changelist"), page(model, "add"), page(row)]

    for address in addresses:
        assert client.get(address).headers["Location"].startswith("/admin/login/")
    client.force_login(alice)
    for address in addresses:
        assert client.get(address).headers["Location"].startswith("/admin/login/")
    client.force_login(UserFactory(is_staff=True))
    for address in addresses:
        refused = client.get(address)
        assert refused.status_code == 403
        assert "<h1>403</h1>" in refused.content.decode()


@all_models
def test_who_may_only_look_is_offered_no_change(client, db, model):
    viewer = UserFactory(is_staff=True)
    viewer.user_permissions.add(*Permission.objects.filter(codename__startswith="view_"))
    client.force_login(viewer)
    row = ROWS[model]()

    answers = {client.get(page(model, "changelist")).status_code, client.get(page(row)).status_code}

    assert answers == {200}
    assert client.get(page(model, "add")).status_code == 403
    assert client.post(page(row), {}).status_code == 403
    assert client.post(page(row, "delete"), {"post": "yes"}).status_code == 403
    registered = admin.site._registry[model]
    for action in registered._extract_action_names(registered.actions_detail):
        assert client.post(page(row, action), {"_form_submitted": "on"}).status_code == 403


@pytest.mark.parametrize(
    "model",
    [
        *(User, ApiKey, AuditEvent, Subscription, StripeEvent, Quota, Grant, Reservation),
        *(Event, WebhookEndpoint, WebhookDelivery),
        *(Request, Conversation, PromptTemplate, SavedPrompt, Collection, ShareLink),
        *(IntentPattern, IntentClassifier, DailyStat),
        *(PromptHistory, Technique, TechniqueEffectiveness),
    ],
)
def test_what_history_hangs_on_cannot_be_deleted(operator, model):
    row = ROWS[model]()

    assert operator.post(page(row, "delete"), {"post": "yes"}).status_code == 403
    chosen = {"action": "delete_selected", "_selected_action": [str(row.pk)], "post": "yes"}
    operator.post(page(model, "changelist"), chosen)

    assert model.objects.filter(pk=row.pk).exists()


def test_a_reservation_leads_to_its_request(operator):
    asked, _other = request(), request()
    link = f"{page(Request, 'changelist')}?reservation__id__exact={asked.reservation_id}"

    assert link in operator.get(page(asked.reservation)).content.decode()
    assert list(operator.get(link).context["cl"].result_list) == [asked]


def test_the_sidebar_shows_what_one_may_open(client, operator):
    assert page(Provider, "changelist") in operator.get("/admin/").content.decode()

    client.force_login(UserFactory(is_staff=True))

    assert page(Provider, "changelist") not in client.get("/admin/").content.decode()


@pytest.mark.drill
def test_pages_name_no_other_host(operator):
    for model, make in ROWS.items():
        html = operator.get(page(make())).content.decode() + operator.get(page(model, "changelist")).content.decode()
        for attribute in ('src="http', 'src="//', '<link href="http', '<link href="//', "@import"):
            assert attribute not in html


def test_a_wrong_address_and_a_missing_row_are_pages_for_people(operator, alice):
    wrong = operator.get("/admin/nowhere/at/all/")

    assert wrong.status_code == 404
    assert "<h1>404</h1>" in wrong.content.decode()
    missing = operator.get(page(alice).replace(str(alice.pk), "nothing"))
    assert missing.headers["Location"] == "/admin/"
