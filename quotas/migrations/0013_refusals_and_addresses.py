import django.core.validators
from django.db import migrations, models

import quotas.receivers

# The events of quotas also say what is left, and whether it was a refusal that reached the limit.
DROP_REACHED = "DROP FUNCTION quotas_reached(quotas_quota, text, int, timestamptz)"
REACHED = """
CREATE FUNCTION quotas_reached(
    quota quotas_quota, event_type text, percent int, at timestamptz, refused boolean DEFAULT false
) RETURNS void LANGUAGE sql AS $$
    INSERT INTO quotas_event (id, type, user_id, quota_id, reset_date, payload, created_at)
    VALUES (
        (lpad(to_hex(floor(extract(epoch FROM at) * 1000)::bigint), 12, '0')
            || '7' || substr(replace(gen_random_uuid()::text, '-', ''), 14))::uuid,
        event_type, quota.user_id, quota.id, quota.reset_date,
        jsonb_build_object(
            'resource', quota.resource_type, 'unit', quota.unit, 'period', quota.period, 'threshold', percent,
            'limit', quota."limit", 'usage', quota.current_usage, 'held', quota.held,
            'left', greatest(quota."limit"::numeric - quota.current_usage - quota.held, 0), 'refused', refused,
            'overage_allowed', quota.overage_allowed, 'api_key_id', quota.api_key_id
        ),
        at
    )
    ON CONFLICT DO NOTHING
$$
"""

DROP_REACHED_AFTER = "DROP FUNCTION quotas_reached(quotas_quota, text, int, timestamptz, boolean)"
REACHED_BEFORE = """
CREATE FUNCTION quotas_reached(quota quotas_quota, event_type text, percent int, at timestamptz) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO quotas_event (id, type, user_id, quota_id, reset_date, payload, created_at)
    VALUES (
        (lpad(to_hex(floor(extract(epoch FROM at) * 1000)::bigint), 12, '0')
            || '7' || substr(replace(gen_random_uuid()::text, '-', ''), 14))::uuid,
        event_type, quota.user_id, quota.id, quota.reset_date,
        jsonb_build_object(
            'resource', quota.resource_type, 'unit', quota.unit, 'period', quota.period, 'threshold', percent,
            'limit', quota."limit", 'usage', quota.current_usage, 'held', quota.held,
            'overage_allowed', quota.overage_allowed, 'api_key_id', quota.api_key_id
        ),
        at
    )
    ON CONFLICT DO NOTHING
$$
"""

# Of endpoints that were made before: the password goes, and an operator has to see to it.
WITHOUT_CREDENTIALS = r"""
UPDATE quotas_webhookendpoint
SET url = regexp_replace(url, '^(https?://)[^/?#]*@', '\1'), is_active = false,
    disabled_reason = 'The URL held a user or password, which is not accepted any more.'
WHERE url ~ '^https?://[^/?#]*@'
"""


class Migration(migrations.Migration):
    dependencies = [("quotas", "0012_rate_limits")]

    operations = [
        migrations.RunSQL(DROP_REACHED, REACHED_BEFORE),
        migrations.RunSQL(REACHED, DROP_REACHED_AFTER),
        migrations.AlterField(
            model_name="webhookendpoint",
            name="url",
            field=models.CharField(
                help_text="Gets a POST for each event, such as https://example.com/hooks/mainstay.",
                max_length=500,
                validators=[
                    django.core.validators.URLValidator(schemes=["http", "https"]),
                    quotas.receivers.check_url,
                ],
                verbose_name="URL",
            ),
        ),
        migrations.RunSQL(WITHOUT_CREDENTIALS, migrations.RunSQL.noop),
        migrations.AddConstraint(
            model_name="webhookendpoint",
            constraint=models.CheckConstraint(
                condition=models.Q(("url__regex", "^https?://[^/?#]*@"), _negated=True),
                name="webhookendpoint_url_no_credentials",
            ),
        ),
    ]
