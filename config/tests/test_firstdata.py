"""The first data of an installation, and that bringing it about again changes nothing."""

import pytest

from accounts.credentials import caller_for_key
from accounts.exceptions import NotAuthenticated
from accounts.models import ApiKey, User
from accounts.tests.credentials import api_key
from accounts.tests.factories import UserFactory
from config import firstdata
from conversations.models import ChannelConfig
from inference.models import Model, Provider
from quotas.models import Quota, Subscription

URL = "http://127.0.0.1:8011/v1"
OPERATOR = "operator@mainstay.local"

pytestmark = pytest.mark.django_db


def ensure(**remembered):
    return firstdata.ensure(
        **{"operator_email": OPERATOR, "operator_password": None, "api_key": None, "models_url": URL} | remembered
    )


def test_an_empty_installation_gets_an_operator_models_and_a_key_that_works():
    made = ensure()

    operator = User.objects.get(email=OPERATOR)
    assert operator.check_password(made["operator_password"])
    assert operator.is_staff
    assert operator.is_superuser
    assert caller_for_key(made["api_key"]).email == firstdata.DEMO_EMAIL
    assert Subscription.objects.get(user__email=firstdata.DEMO_EMAIL).plan.slug == "pro"
    assert Quota.objects.get(user__email=firstdata.DEMO_EMAIL, resource_type="llm", unit="requests").limit == 5000
    assert set(Model.objects.values_list("name", "kind", "provider__base_url")) == {
        ("smollm2", "llm", URL),
        ("use-multilingual", "embedding", URL),
    }
    assert set(ChannelConfig.objects.values_list("default_model", flat=True)) == {"smollm2"}


def test_the_second_time_nothing_is_made_and_nothing_is_said():
    made = ensure()
    before = list(User.objects.values("id", "password")), list(ApiKey.objects.values()), list(Model.objects.values())

    again = ensure(operator_password=made["operator_password"], api_key=made["api_key"])

    assert again == {"operator_email": OPERATOR, "operator_password": None, "api_key": None}
    assert before == (
        list(User.objects.values("id", "password")),
        list(ApiKey.objects.values()),
        list(Model.objects.values()),
    )


def test_a_password_that_the_operator_changed_stays():
    made = ensure()
    operator = User.objects.get(email=OPERATOR)
    operator.set_password("a password of my own")
    operator.save()

    assert ensure(operator_password=made["operator_password"], api_key=made["api_key"])["operator_password"] is None
    operator.refresh_from_db()
    assert operator.check_password("a password of my own")


def test_when_the_password_was_forgotten_a_new_one_is_set():
    ensure()
    User.objects.filter(email=OPERATOR).update(is_active=False, is_staff=False)

    made = ensure()

    operator = User.objects.get(email=OPERATOR)
    assert operator.check_password(made["operator_password"])
    assert operator.is_active
    assert operator.is_staff


def test_a_key_that_no_longer_works_is_replaced():
    made = ensure()
    ApiKey.objects.update(is_active=False)

    again = ensure(operator_password=made["operator_password"], api_key=made["api_key"])

    assert again["api_key"] not in {None, made["api_key"]}
    assert caller_for_key(again["api_key"])


def test_somebody_elses_key_is_not_taken_for_the_demo_users():
    other = api_key(UserFactory())

    assert ensure(api_key=other)["api_key"] not in {None, other}


def test_a_demo_user_who_was_shut_out_stays_out():
    ensure()
    User.objects.filter(email=firstdata.DEMO_EMAIL).update(is_active=False)

    with pytest.raises(NotAuthenticated, match="not active"):
        ensure()


def test_models_that_an_operator_removed_or_changed_are_left_alone():
    ensure()
    Model.objects.filter(name="smollm2").delete()
    Model.objects.update(is_active=False)

    ensure(models_url="http://127.0.0.1:9999/v1")

    assert list(Model.objects.values_list("name", "is_active")) == [("use-multilingual", False)]
    assert Provider.objects.get().base_url == "http://127.0.0.1:9999/v1"
