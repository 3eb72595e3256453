"""Plans and subscriptions in the admin, and the plan on the pages of users."""

import pytest

from accounts.caller import Caller
from accounts.models import AuditEvent, User
from quotas import rates, services
from quotas.models import Plan, PlanLimit, Quota, Subscription
from quotas.tasks import apply_changed_limits
from quotas.tests.factories import PlanFactory, SubscriptionFactory
from tests.admin import act, filled_form, messages, page, save


@pytest.fixture
def operator(client, olga):
    client.force_login(olga)
    return client


def event(action):
    return AuditEvent.objects.get(action=action)


def limits_form(**row):
    return {f"limits-0-{name}": value for name, value in row.items()} | {"limits-TOTAL_FORMS": "1"}


def test_a_plan_is_made_with_its_limits(operator, olga):
    row = limits_form(
        resource_type="llm", unit="tokens", period="month", cycle="calendar", limit="500", soft_threshold="80"
    )
    save(operator, page(Plan, "add"), name="Gold", slug="gold", **row)

    plan = Plan.objects.get(slug="gold")
    assert [str(limit) for limit in plan.limits.all()] == ["500 llm.tokens a month"]
    created = event("plan.created")
    assert (created.actor_id, created.target_id) == (olga.pk, str(plan.pk))
    assert created.metadata == {"fields": ["name", "slug", "limits: 500 llm.tokens a month"]}


def test_changes_of_a_plan_and_its_limits_name_what_changed(operator):
    plan = PlanFactory(limits={("llm", "tokens", "month"): 500})

    save(operator, page(plan), description="For all", **{"limits-0-limit": "900"})
    save(operator, page(plan), **{"limits-0-DELETE": "on"})
    save(operator, page(plan))

    first, second = AuditEvent.objects.filter(action="plan.updated").order_by("id")
    assert first.metadata == {"fields": ["description", "limits: 900 llm.tokens a month"]}
    assert second.metadata == {"fields": ["limits: 900 llm.tokens a month"]}
    assert not PlanLimit.objects.filter(plan=plan).exists()


def test_changed_limits_reach_the_subscribers(operator, alice, django_capture_on_commit_callbacks):
    plan = PlanFactory(limits={("llm", "tokens", "month"): 500})
    SubscriptionFactory(user=alice, plan=plan)
    services.provision(user_id=alice.pk)

    with django_capture_on_commit_callbacks(execute=True) as callbacks:
        save(operator, page(plan), **{"limits-0-limit": "900"})
        plan.refresh_from_db()
        assert plan.limits_changed_at is not None

    assert any("apply_plan_limits" in str(callback) for callback in callbacks)
    apply_changed_limits()
    plan.refresh_from_db()
    assert plan.limits_changed_at is None
    assert Quota.objects.get(user=alice).limit == 900


def test_two_limits_of_one_meter_and_period_are_refused(operator):
    plan = PlanFactory(limits={("llm", "tokens", "month"): 500})
    twin = {"resource_type": "llm", "unit": "tokens", "period": "month", "cycle": "calendar", "limit": "1"}
    twin |= {"soft_threshold": "80"}

    answer = save(
        operator,
        page(plan),
        **{"limits-TOTAL_FORMS": "2"} | {f"limits-1-{name}": value for name, value in twin.items()},
    )

    assert answer.status_code == 200
    assert plan.limits.count() == 1


def test_there_is_always_exactly_one_default(operator, olga):
    pro = Plan.objects.get(slug="pro")
    act(operator, pro, "make_default")

    assert list(Plan.objects.filter(is_default=True)) == [pro]
    made = event("plan.made_default")
    assert (made.actor_id, made.target_id, made.metadata) == (olga.pk, str(pro.pk), {"former": ["free"]})
    assert operator.get(page(pro, "make_default")).status_code == 403


def test_a_plan_that_somebody_was_on_cannot_be_deleted(operator):
    used = SubscriptionFactory(status=Subscription.Status.CANCELED).plan
    unused = PlanFactory()

    for plan in (used, Plan.objects.get(is_default=True)):
        assert operator.post(page(plan, "delete"), {"post": "yes"}).status_code == 403
    operator.post(page(unused, "delete"), {"post": "yes"})

    assert not Plan.objects.filter(pk=unused.pk).exists()
    assert event("plan.deleted").metadata == {"name": unused.name}


def test_plans_count_their_subscribers(operator):
    plan = SubscriptionFactory().plan
    SubscriptionFactory(plan=plan)
    SubscriptionFactory(plan=plan, status=Subscription.Status.CANCELED)

    listed = {row.slug: row.live for row in operator.get(page(Plan, "changelist")).context["cl"].result_list}

    assert listed[plan.slug] == 2
    assert listed["team"] == 0


# Rate limits


def test_rate_limits_are_edited_one_a_line_and_count_at_once(operator, django_capture_on_commit_callbacks):
    subscription = SubscriptionFactory(plan=PlanFactory(rate_limits={"default": {"requests": {"minute": 60}}}))
    plan, subjects = subscription.plan, rates.subjects_of(Caller(user_id=subscription.user_id), "api")
    assert rates.decide(subjects).tightest()["requests"].rate.limit == 60
    assert filled_form(operator, page(plan))["rate_limits"] == "default requests minute 60"

    with django_capture_on_commit_callbacks(execute=True):
        save(operator, page(plan), rate_limits="default requests minute 5\ninference  tokens day 100\n\n")

    plan.refresh_from_db()
    assert plan.rate_limits == {"default": {"requests": {"minute": 5}}, "inference": {"tokens": {"day": 100}}}
    assert event("plan.updated").metadata == {"fields": ["rate_limits"]}
    assert rates.decide(subjects).tightest()["requests"].rate.limit == 5

    save(operator, page(plan), rate_limits="")
    plan.refresh_from_db()
    assert plan.rate_limits == {}


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("default requests minute", "is not a section"),
        ("default requests minute many", "is not a section"),
        ("default requests minute 0", "whole number from 1"),
        ("default requests minute 9999999999999", "whole number from 1"),
        ("everything requests minute 1", "There is no section called everything"),
        ("default euros minute 1", "There is no unit in default called euros"),
        ("default requests month 1", "There is no window in default requests called month"),
        ("default requests minute 1\ndefault requests minute 2", "Two lines are about"),
    ],
)
def test_rate_limits_that_make_no_sense_are_refused(operator, line, sentence):
    plan = Plan.objects.get(slug="pro")
    answer = save(operator, page(plan), rate_limits=line)
    assert answer.status_code == 200
    assert sentence in answer.content.decode()
    former = plan.rate_limits
    plan.refresh_from_db()
    assert plan.rate_limits == former != {}


# Subscriptions


@pytest.mark.parametrize("of", ["subscription", "user"])
def test_a_plan_is_changed_from_the_subscription_and_from_the_user(operator, olga, of):
    subscription = SubscriptionFactory(plan=Plan.objects.get(slug="free"))
    row = subscription if of == "subscription" else subscription.user
    pro = Plan.objects.get(slug="pro")

    answer = act(operator, row, "change_plan", plan=str(pro.pk), at_once="yes", reason="Ticket 7")

    subscription.refresh_from_db()
    assert subscription.plan == pro
    assert Quota.objects.get(user=subscription.user, unit="requests").limit == 5_000
    changed = event("plan.changed")
    assert (changed.actor_id, changed.metadata["plan"]) == (olga.pk, "pro")
    assert messages(answer, operator) == [f"{subscription.user} is on Pro now."]


def test_a_plan_that_is_off_the_offer_cannot_be_chosen(operator):
    subscription = SubscriptionFactory()
    closed = PlanFactory(is_active=False)

    answer = act(operator, subscription, "change_plan", plan=str(closed.pk), at_once="yes", reason="Ticket 7")

    assert "Select a valid choice" in answer.content.decode()
    assert not AuditEvent.objects.exists()


# Users


def test_users_are_listed_and_filtered_by_plan(operator, alice, olga):
    services.change_plan(user_id=alice.pk, plan=Plan.objects.get(slug="team"), by=olga)

    def listed(**query):
        return {
            user.email: user.plan_name
            for user in operator.get(page(User, "changelist"), query).context["cl"].result_list
        }

    assert listed() == {"alice@example.com": "Team", "olga@example.com": None}
    assert listed(plan="team") == {"alice@example.com": "Team"}
    assert listed(plan="pro") == {}


def test_a_user_with_a_past_subscription_is_listed_once(operator, alice):
    for _ in range(2):
        SubscriptionFactory(user=alice, status=Subscription.Status.CANCELED)
    SubscriptionFactory(user=alice, plan=Plan.objects.get(slug="pro"))

    users = list(operator.get(page(User, "changelist"), {"q": "alice"}).context["cl"].result_list)

    assert [user.plan_name for user in users] == ["Pro"]


def test_a_user_who_is_made_here_has_the_default_quotas_at_once(operator):
    save(operator, page(User, "add"), email="new@example.com", password="another horse, another battery")

    user = User.objects.get(email="new@example.com")
    assert user.subscriptions.get().plan.is_default
    assert user.quotas.count() == PlanLimit.objects.filter(plan__is_default=True).count() > 0


def test_the_form_of_a_plan_does_not_offer_to_set_the_default(operator):
    assert "is_default" not in filled_form(operator, page(Plan.objects.get(slug="pro")))
