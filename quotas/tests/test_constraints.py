"""What the database itself refuses, whoever writes."""

from importlib import import_module

import pytest
from django.apps import apps
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from accounts.models import ApiKey
from accounts.tests.credentials import api_key
from quotas import services
from quotas.models import IdempotencyRecord, Plan, Quota, Reservation, Subscription
from quotas.tests.factories import PlanFactory, QuotaFactory, SubscriptionFactory

fill = import_module("quotas.migrations.0012_rate_limits").fill


def refused(statement, *values):
    with pytest.raises(IntegrityError) as refusal, transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement, values)
    return str(refusal.value)


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ("current_usage = 101", "quota_not_overspent"),
        ("held = 101", "quota_not_overspent"),
        ("current_usage = 60, held = 41", "quota_not_overspent"),
        ('current_usage = 50, "limit" = 49', "quota_not_overspent"),
        ("current_usage = -1", "quota_base_used_is_used"),
        ('"limit" = 101', "quota_total_adds_up"),
        ("granted = 1", "quota_total_adds_up"),
        ("base_used = 1", "quota_base_used_is_used"),
        ("held = -1", "quota_held_not_negative"),
        ('"limit" = -1', "quota_limit_not_negative"),
        ("base_limit = -1", "quota_limit_not_negative"),
        ("reset_date = NULL", "quota_reset_as_period_says"),
        ("period = 'none'", "quota_reset_as_period_says"),
        ("soft_threshold = 0", "quota_threshold_percent"),
        ("soft_threshold = 101", "quota_threshold_percent"),
    ],
)
def test_a_quota_is_always_sound(alice, change, constraint):
    QuotaFactory(user=alice, limit=100)

    assert constraint in refused(f"UPDATE quotas_quota SET {change}")


def test_exactly_full_is_sound_and_overage_may_go_over(alice):
    QuotaFactory(user=alice, limit=100)
    Quota.objects.update(current_usage=60, held=40)
    Quota.objects.update(overage_allowed=True)
    Quota.objects.update(current_usage=1000)

    assert "quota_not_overspent" in refused("UPDATE quotas_quota SET overage_allowed = false")


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ("amount = 0", "grant_amount_positive"),
        ("spent = 11", "grant_not_overspent"),
        ("spent = -1", "grant_not_overspent"),
        ("expires_at = created_at", "grant_expires_later"),
    ],
)
def test_a_grant_is_always_sound(alice, olga, change, constraint):
    services.grant(quota=QuotaFactory(user=alice), amount=10, by=olga)

    assert constraint in refused(f"UPDATE quotas_grant SET {change}")


def test_a_user_has_one_quota_of_a_kind(alice):
    QuotaFactory(user=alice)

    with pytest.raises(IntegrityError, match="quota_unique"), transaction.atomic():
        QuotaFactory(user=alice)


@pytest.fixture
def key(alice):
    api_key(alice)
    return ApiKey.objects.get()


def test_a_key_has_one_budget_of_a_kind_beside_its_owners_quota(alice, key):
    QuotaFactory(user=alice)
    QuotaFactory(user=alice, api_key=key)

    with pytest.raises(IntegrityError, match="quota_unique"), transaction.atomic():
        QuotaFactory(user=alice, api_key=key)


@pytest.mark.parametrize("change", ["granted = 1", "overage_allowed = true", "base_limit = 0"])
def test_a_budget_only_bounds(alice, key, change):
    QuotaFactory(user=alice, api_key=key)

    assert "quota_budget_is_plain" in refused(f"UPDATE quotas_quota SET {change}")


def test_a_user_has_one_subscription_that_runs(alice):
    SubscriptionFactory(user=alice, status="canceled")
    SubscriptionFactory(user=alice, status="past_due")

    with pytest.raises(IntegrityError, match="subscription_one_live"), transaction.atomic():
        SubscriptionFactory(user=alice)


def test_a_subscription_runs_forward_in_a_known_state(alice):
    SubscriptionFactory(user=alice)

    assert "subscription_status_known" in refused("UPDATE quotas_subscription SET status = 'odd'")
    assert "subscription_period_forward" in refused(
        "UPDATE quotas_subscription SET current_period_end = current_period_start"
    )


def test_there_is_one_default_plan_with_a_name(db):
    with pytest.raises(IntegrityError, match="plan_one_default"), transaction.atomic():
        PlanFactory(is_default=True)
    with pytest.raises(IntegrityError, match="plan_slug_given"), transaction.atomic():
        PlanFactory(slug="")


def test_a_plans_limit_is_unique_and_not_negative(db):
    assert "planlimit_not_negative" in refused('UPDATE quotas_planlimit SET "limit" = -1')
    plan = Plan.objects.get(slug="free")
    with pytest.raises(IntegrityError, match="planlimit_unique"), transaction.atomic():
        plan.limits.create(resource_type="llm", unit="requests", period="day", limit=1)


def test_a_plan_with_subscribers_cannot_be_deleted(alice):
    subscription = SubscriptionFactory(user=alice)

    with pytest.raises(IntegrityError), transaction.atomic():
        Plan.objects.filter(pk=subscription.plan_id).delete()
    assert Subscription.objects.exists()


def test_a_reservation_has_a_known_state_and_an_end_when_it_has_ended(alice):
    Reservation.objects.create(user=alice, amounts={}, holds={}, expires_at=timezone.now())

    assert "reservation_status_known" in refused("UPDATE quotas_reservation SET status = 'odd', settled_at = now()")
    assert "reservation_settled_when_ended" in refused("UPDATE quotas_reservation SET status = 'confirmed'")
    assert "reservation_settled_when_ended" in refused("UPDATE quotas_reservation SET settled_at = now()")


def test_an_idempotency_key_is_a_users_once_and_answered_when_it_is_done(alice, bob):
    fields = {"key": "k", "endpoint": "POST /x", "fingerprint": "0", "expires_at": timezone.now()}
    IdempotencyRecord.objects.bulk_create(IdempotencyRecord(user=user, **fields) for user in (alice, bob))

    odd = "UPDATE quotas_idempotencyrecord SET status = 'odd', response_status = 200"
    assert "idempotencyrecord_status_known" in refused(odd)
    for change in ("status = 'done'", "response_status = 200", "body = ''"):
        assert "answered_when_done" in refused(f"UPDATE quotas_idempotencyrecord SET {change}")
    with pytest.raises(IntegrityError, match="idempotencyrecord_unique"), transaction.atomic():
        IdempotencyRecord.objects.create(user=alice, **fields)


@pytest.mark.django_db
@pytest.mark.parametrize(
    "value",
    [
        *("[]", "3", '"x"', "null", '{"default": 5}', '{"default": []}', '{"default": {"requests": 5}}'),
        *('{"default": {"requests": {"minute": 0}}}', '{"default": {"requests": {"minute": "5"}}}'),
        *('{"default": {"requests": {"minute": [5]}}}', '{"default": {"requests": {"minute": null}}}'),
    ],
)
def test_rate_limits_are_counts_by_section_unit_and_window(value):
    plan = PlanFactory()
    assert "plan_rate_limits_positive" in refused(
        "UPDATE quotas_plan SET rate_limits = %s::jsonb WHERE id = %s", value, plan.pk
    )


@pytest.mark.django_db
def test_rate_limits_that_can_be():
    for value in ({}, {"default": {}}, {"default": {"requests": {}}}, {"key": {"tokens": {"day": 10**12}}}):
        plan = PlanFactory(rate_limits=value)
        plan.full_clean()


@pytest.mark.django_db
def test_the_migration_fills_what_is_empty_and_empties_what_never_made_sense():
    Plan.objects.filter(slug="free").update(rate_limits={})
    kept = {"default": {"requests": {"minute": 7}}}
    Plan.objects.filter(slug="pro").update(rate_limits=kept)
    # As it may have been before there was a constraint; `requests` are no window.
    odd = PlanFactory(rate_limits={"default": {"requests": {"requests": 7}}})

    fill(apps, None)

    limits = dict(Plan.objects.values_list("slug", "rate_limits"))
    assert limits["free"]["inference"]["tokens"] == {"minute": 100_000}
    assert (limits["pro"], limits[odd.slug]) == (kept, {})
