from django.db import migrations, models

from accounts.operations import FollowMerges

# A user may be merged on while this waits for the lock, so it looks until it stands at one who is not.
FUNCTION = """
CREATE FUNCTION accounts_follow_merge() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    owner record;
BEGIN
    LOOP
        SELECT merged_into_id, erased_at INTO owner FROM accounts_user WHERE id = NEW.user_id FOR KEY SHARE;
        EXIT WHEN owner.merged_into_id IS NULL;
        NEW.user_id := owner.merged_into_id;
    END LOOP;
    IF owner.erased_at IS NOT NULL THEN
        RAISE EXCEPTION 'the user was erased' USING ERRCODE = 'foreign_key_violation', CONSTRAINT = 'user_not_erased';
    END IF;
    RETURN NEW;
END $$;
"""

TABLES = (
    *("accounts_apikey", "accounts_channelidentity", "accounts_onetimecode", "accounts_recoverycode"),
    *("accounts_session", "accounts_totpdevice", "accounts_userpreference", "django_admin_log"),
)


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0005_support_permission"),
        ("admin", "0003_logentry_add_action_flag_choices"),
    ]

    operations = [
        migrations.AddIndex(
            model_name="auditevent",
            index=models.Index(
                condition=~models.Q(actor_email=""), fields=["actor_email", "-id"], name="auditevent_email"
            ),
        ),
        migrations.RunSQL(FUNCTION, "DROP FUNCTION accounts_follow_merge()"),
        *(FollowMerges(table) for table in TABLES),
    ]
