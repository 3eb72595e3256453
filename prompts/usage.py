"""How often each version ran, and what that took: rolled up from the request history, so no call writes a counter."""

from __future__ import annotations

from datetime import date, timedelta

from django.db import connection
from django.utils import timezone

ROLL_UP = """
INSERT INTO prompts_promptusage AS usage
    (version_id, day, requests, errors, input_tokens, output_tokens, cost, processing_time)
SELECT v.id, (r.created_at AT TIME ZONE 'UTC')::date, count(*), count(*) FILTER (WHERE r.status = 'error'),
    sum(r.input_tokens), sum(r.output_tokens), sum(r.cost), coalesce(sum(r.processing_time), 0)
FROM inference_request r JOIN prompts_promptversion v ON v.id = r.prompt_version_id
WHERE r.created_at >= %(since)s AND r.created_at < %(until)s AND r.status <> 'running'
GROUP BY 1, 2
ON CONFLICT (version_id, day) DO UPDATE SET
    requests = EXCLUDED.requests, errors = EXCLUDED.errors, input_tokens = EXCLUDED.input_tokens,
    output_tokens = EXCLUDED.output_tokens, cost = EXCLUDED.cost, processing_time = EXCLUDED.processing_time
"""


def roll_up(*, days: int = 2, today: date | None = None) -> int:
    """Write the usage of the last `days` days anew from the request history; how many rows that made."""
    end = (today or timezone.now().date()) + timedelta(days=1)
    with connection.cursor() as cursor:
        cursor.execute(ROLL_UP, {"since": f"{end - timedelta(days=days)}T00:00Z", "until": f"{end}T00:00Z"})
        return int(cursor.rowcount)
