"""Callers whom the process knows: decided while they are authenticated, and counted only if they are let in."""

import hashlib

import pytest
from django.test import RequestFactory
from django.urls import resolve

from accounts import services as accounts
from accounts import snapshots
from accounts.exceptions import NotAllowed, NotAuthenticated
from accounts.models import ApiKey, ChannelIdentity
from accounts.snapshots import redis_client
from accounts.tests.credentials import access_token, api_key
from quotas import admission, local_rates, plan_rates, rates
from quotas.exceptions import RateLimitExceeded
from quotas.tests.factories import PlanFactory, SubscriptionFactory
from quotas.throttling import admitted_caller

DAY = {"requests": {"day": 3}}


@pytest.fixture
def user(transactional_db):
    return SubscriptionFactory(plan=PlanFactory(rate_limits={"default": DAY})).user


def call(credential, path="/v1/chat/completions", method="POST", **headers):
    request = RequestFactory().generic(method, path, headers={"Authorization": f"Bearer {credential}"} | headers)
    request.resolver_match = resolve(path)
    caller = admitted_caller(request)
    return caller.user_id, int(request.rate_headers["x-ratelimit-remaining-requests"])


def is_known(credential):
    return call(credential) and len(admission._known) == 1


@pytest.mark.parametrize("credential_of", [api_key, access_token])
def test_known_callers_are_counted_as_others_are(user, credential_of, django_assert_num_queries):
    credential = credential_of(user)
    assert call(credential) == (user.pk, 2)
    with django_assert_num_queries(0):
        assert [call(credential) for _ in range(2)] == [(user.pk, 1), (user.pk, 0)]
        for _ in range(2):
            with pytest.raises(RateLimitExceeded, match="3 requests a day"):
                call(credential)


def test_who_is_known_is_known_by_all_of_the_credential(user):
    key = api_key(user)
    assert is_known(key)
    for _ in range(5):
        with pytest.raises(NotAuthenticated):
            call(f"{key}x")
    assert call(key) == (user.pk, 1)


def test_what_a_key_may_not_do_is_not_counted(user):
    key = api_key(user, scopes=["read"])
    assert [call(key, "/v1/models", "GET")[1] for _ in range(2)] == [2, 1]
    for _ in range(5):
        with pytest.raises(NotAllowed):
            call(key)
    assert call(key, "/v1/models", "GET")[1] == 0


def test_a_key_that_ends_is_not_counted_any_more(user):
    key, other = api_key(user), api_key(user)
    assert is_known(key)
    accounts.revoke_api_key(key_id=ApiKey.objects.earliest("id").pk, by=user)
    for _ in range(5):
        with pytest.raises(NotAuthenticated):
            call(key)
    assert call(other)[1] == 1


def test_a_change_of_the_plan_is_seen_by_known_callers(user):
    key = api_key(user)
    assert is_known(key)
    plan = user.subscriptions.get().plan
    plan.rate_limits = {"default": {"requests": {"day": 9}}}
    plan.save()
    plan_rates.publish(plan=plan)
    assert [call(key)[1] for _ in range(2)] == [7, 6]


def test_words_that_come_to_mean_somebody_else(user, olga):
    key = api_key(user, scopes=["inference", "act-as"], by=olga)
    other = SubscriptionFactory(plan=PlanFactory(rate_limits={"default": {"requests": {"day": 50}}})).user
    named = {"X-On-Behalf-Of": "discord:1"}
    assert call(key, **named)[0] == ChannelIdentity.objects.get().user_id
    ChannelIdentity.objects.update(user=other)
    redis_client().delete(snapshots.of_person("discord:1"))
    assert [call(key, **named) for _ in range(2)] == [(other.pk, 49), (other.pk, 48)]


def test_what_is_known_is_not_more_than_may_be(user, monkeypatch):
    monkeypatch.setattr(admission, "MOST_KNOWN", 2)
    for _ in range(3):
        call(api_key(user))
    assert len(admission._known) == 1


def test_a_redis_that_cannot_count_still_says_who_calls(user, monkeypatch, django_assert_num_queries):
    key = api_key(user)
    assert is_known(key)
    script = "return redis.error_reply('OOM command not allowed')"
    monkeypatch.setattr(rates, "SCRIPT", script)
    monkeypatch.setattr(rates, "SCRIPT_SHA", hashlib.sha1(script.encode()).hexdigest())
    with django_assert_num_queries(0):
        assert [call(key)[1] for _ in range(2)] == [2, 1]
    assert local_rates.decided_locally() == 2
    assert not redis_client().is_away


def test_known_callers_without_redis(user, redis_away):
    key = api_key(user)
    assert [call(key)[1] for _ in range(3)] == [2, 1, 0]
    with pytest.raises(RateLimitExceeded):
        call(key)
