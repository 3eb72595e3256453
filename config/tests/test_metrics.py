"""GET /metrics."""

import pytest

from quotas import local_rates


def test_what_is_decided_without_redis_is_counted(client, settings):
    settings.METRICS_TOKEN = "scraper"

    def counted():
        answer = client.get("/metrics", headers={"Authorization": "Bearer scraper"})
        assert answer.headers["Content-Type"].startswith("text/plain")
        (line,) = (row for row in answer.content.decode().splitlines() if row.startswith(METRIC + " "))
        return float(line.split()[1])

    before = counted()
    local_rates.run([], 0, 1, 0)
    assert counted() == before + 1


METRIC = "mainstay_rate_limits_decided_locally_total"


@pytest.mark.parametrize(("token", "sent"), [("", ""), ("", "Bearer "), ("scraper", ""), ("scraper", "Bearer other")])
def test_nobody_else_sees_that_there_is_something(client, settings, token, sent):
    settings.METRICS_TOKEN = token
    answer = client.get("/metrics", headers={"Authorization": sent})
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "not_found"
