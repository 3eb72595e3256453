import factory
from django.utils import timezone

from accounts.tests.factories import UserFactory
from quotas.meters import period_end
from quotas.models import (
    Event,
    FeatureFlag,
    FlagRule,
    FlagVariant,
    Grant,
    Plan,
    PlanLimit,
    Quota,
    Subscription,
    WebhookDelivery,
    WebhookEndpoint,
)


class QuotaFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Quota

    user = factory.SubFactory(UserFactory)
    resource_type = "llm"
    unit = "requests"
    period = "month"
    limit = 100
    base_limit = factory.SelfAttribute("limit")
    reset_date = factory.LazyAttribute(lambda quota: period_end(quota.period, timezone.now()))


class GrantFactory(factory.django.DjangoModelFactory):
    """An open grant, with the quota that it adds to."""

    class Meta:
        model = Grant

    amount = 50
    quota = factory.SubFactory(
        QuotaFactory,
        base_limit=100,
        granted=factory.SelfAttribute("..amount"),
        limit=factory.LazyAttribute(lambda quota: 100 + quota.granted),
    )


class PlanFactory(factory.django.DjangoModelFactory):
    """A plan, with limits as `limits={("llm", "tokens", "month"): 100}`."""

    class Meta:
        model = Plan
        skip_postgeneration_save = True

    slug = factory.Sequence(lambda n: f"plan-{n}")
    name = factory.SelfAttribute("slug")

    @factory.post_generation
    def limits(plan, create, limits):  # noqa: N805
        for (resource, unit, period), limit in (limits or {}).items():
            PlanLimit.objects.create(plan=plan, resource_type=resource, unit=unit, period=period, limit=limit)


class SubscriptionFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Subscription

    user = factory.SubFactory(UserFactory)
    plan = factory.SubFactory(PlanFactory)


class FlagFactory(factory.django.DjangoModelFactory):
    """A flag with a known salt; variants as `variants={"a": 1}` by weight, each giving its own name."""

    class Meta:
        model = FeatureFlag
        skip_postgeneration_save = True

    key = factory.Sequence(lambda n: f"flag_{n}")
    salt = "salt"

    @factory.post_generation
    def variants(flag, create, weights):  # noqa: N805
        for name, weight in (weights or {}).items():
            FlagVariant.objects.create(flag=flag, name=name, weight=weight, value=name)

    @factory.post_generation
    def rules(flag, create, rules):  # noqa: N805
        """As `rules=[{"user": alice, "value": 1}]`."""
        for rule in rules or ():
            FlagRule.objects.create(flag=flag, **rule)


class EventFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Event

    type = "quota.limit_reached"
    user = factory.SubFactory(UserFactory)
    payload = factory.LazyFunction(lambda: {"resource": "llm", "unit": "tokens", "limit": 10, "usage": 10})


class EndpointFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = WebhookEndpoint

    url = factory.Sequence(lambda n: f"https://example.com/hooks/{n}")


class DeliveryFactory(factory.django.DjangoModelFactory):
    """One that was given up."""

    class Meta:
        model = WebhookDelivery

    endpoint = factory.SubFactory(EndpointFactory)
    event = factory.SubFactory(EventFactory)
    status = "dead"
    attempts = 10
    last_error = "Answered 500."
