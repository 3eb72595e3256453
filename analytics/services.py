"""Rolling up the request history."""

from __future__ import annotations

from datetime import date, timedelta

from django.db import connection
from django.utils import timezone

ROLL_UP = """
INSERT INTO analytics_dailystat AS stat
    (day, request_type, model, requests, errors, input_tokens, output_tokens, cost, users)
SELECT (created_at AT TIME ZONE 'UTC')::date, request_type, model, count(*), count(*) FILTER (WHERE status = 'error'),
    sum(input_tokens), sum(output_tokens), sum(cost), count(DISTINCT user_id)
FROM inference_request
WHERE created_at >= %(since)s AND created_at < %(until)s AND status <> 'running'
GROUP BY 1, 2, 3
ON CONFLICT (day, request_type, model) DO UPDATE SET
    requests = EXCLUDED.requests, errors = EXCLUDED.errors, input_tokens = EXCLUDED.input_tokens,
    output_tokens = EXCLUDED.output_tokens, cost = EXCLUDED.cost, users = EXCLUDED.users
"""


def roll_up(*, days: int = 2, today: date | None = None) -> int:
    """Write the daily statistics of the last `days` days anew from the request history; how many rows that made.

    Repeating it changes nothing, and a call that ends after midnight is caught by the next run.
    """
    end = (today or timezone.now().date()) + timedelta(days=1)
    with connection.cursor() as cursor:
        cursor.execute(ROLL_UP, {"since": f"{end - timedelta(days=days)}T00:00Z", "until": f"{end}T00:00Z"})
        return int(cursor.rowcount)
