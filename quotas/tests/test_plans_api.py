"""GET /api/v1/plans and /api/v1/plans/{slug}."""

import pytest

from quotas.models import Plan
from quotas.tests.factories import PlanFactory

PATH = "/api/v1/plans"

pytestmark = pytest.mark.django_db


def test_anybody_sees_the_plans_on_offer_in_their_order(api):
    PlanFactory(slug="first", position=0, limits={("llm", "tokens", "day"): 5})
    PlanFactory(slug="gone", is_active=False)
    Plan.objects.filter(slug="free").update(position=9)

    answer = api().get(PATH)

    assert answer.status_code == 200
    assert [plan["slug"] for plan in answer.json()] == ["first", "pro", "team", "free"]
    first = answer.json()[0]
    assert first["limits"] == [
        {
            "resource_type": "llm",
            "unit": "tokens",
            "period": "day",
            "cycle": "calendar",
            "limit": 5,
            "soft_threshold": 80,
            "overage_allowed": False,
        }
    ]
    assert "stripe_price_id" not in first


def test_a_plan_is_found_by_its_slug(api):
    assert api().get(f"{PATH}/pro").json()["name"] == "Pro"


@pytest.mark.parametrize("slug", ["none", "gone", "PRO", "%00", "a%00b", "%F0%9F%92%A9", "x" * 300])
def test_a_plan_that_is_not_on_offer_is_not_found(api, slug):
    PlanFactory(slug="gone", is_active=False)

    answer = api().get(f"{PATH}/{slug}")

    assert answer.status_code == 404
    assert answer.json()["error"]["type"] == "not_found_error"


def test_plans_cannot_be_written_here(api, alice, olga):
    for who in (alice, olga):
        assert api(who).post(PATH, {"slug": "mine", "name": "Mine"}).status_code == 405
        assert api(who).patch(f"{PATH}/pro", {"name": "Mine"}).status_code == 405
        assert api(who).delete(f"{PATH}/pro").status_code == 405
