from django.db import migrations

# Whoever changes a subscription - its user, an operator, Stripe, time - it is told in the same transaction. One that
# begins is told of if it is sold: everybody begins with the default plan's.
CHANGED = """
CREATE FUNCTION quotas_subscription_changed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    at timestamptz := clock_timestamp();
BEGIN
    INSERT INTO quotas_event (id, type, user_id, payload, created_at)
    SELECT (lpad(to_hex(floor(extract(epoch FROM at) * 1000)::bigint), 12, '0')
            || '7' || substr(replace(gen_random_uuid()::text, '-', ''), 14))::uuid,
        'subscription.changed', NEW.user_id,
        jsonb_build_object(
            'subscription_id', NEW.id, 'plan', plan.slug, 'next_plan', next_plan.slug, 'status', NEW.status,
            'is_suspended', NEW.is_suspended, 'cancel_at_period_end', NEW.cancel_at_period_end,
            'current_period_end', NEW.current_period_end
        ),
        at
    FROM quotas_plan plan LEFT JOIN quotas_plan next_plan ON next_plan.id = NEW.next_plan_id
    WHERE plan.id = NEW.plan_id;
    RETURN NULL;
END $$
"""
BEGUN_TRIGGER = """
CREATE TRIGGER quotas_subscription_begun AFTER INSERT ON quotas_subscription FOR EACH ROW
WHEN (NEW.stripe_subscription_id IS NOT NULL) EXECUTE FUNCTION quotas_subscription_changed()
"""
CHANGED_TRIGGER = """
CREATE TRIGGER quotas_subscription_changed AFTER UPDATE ON quotas_subscription FOR EACH ROW
WHEN (
    (NEW.plan_id, NEW.next_plan_id, NEW.status, NEW.is_suspended, NEW.cancel_at_period_end)
    IS DISTINCT FROM (OLD.plan_id, OLD.next_plan_id, OLD.status, OLD.is_suspended, OLD.cancel_at_period_end)
)
EXECUTE FUNCTION quotas_subscription_changed()
"""


class Migration(migrations.Migration):
    dependencies = [("quotas", "0010_billing")]

    operations = [
        migrations.RunSQL(CHANGED, "DROP FUNCTION quotas_subscription_changed()"),
        migrations.RunSQL(BEGUN_TRIGGER, "DROP TRIGGER quotas_subscription_begun ON quotas_subscription"),
        migrations.RunSQL(CHANGED_TRIGGER, "DROP TRIGGER quotas_subscription_changed ON quotas_subscription"),
    ]
