import factory
from django.utils import timezone

from accounts.tests.factories import UserFactory
from quotas.meters import period_end
from quotas.models import Quota


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
