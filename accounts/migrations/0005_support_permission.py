from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("accounts", "0004_encrypt_names")]

    operations = [
        migrations.AlterModelOptions(
            name="user",
            options={
                "ordering": ("email", "id"),
                "permissions": [
                    (
                        "support_user",
                        "Can help users: mails, passwords, signing out, revoking keys, resetting and granting quotas",
                    )
                ],
            },
        ),
    ]
