from django.apps import AppConfig
from django.contrib.admin import apps as admin_apps


class AccountsConfig(AppConfig):
    name = "accounts"
    default = True


class OperatorAdminConfig(admin_apps.AdminConfig):
    """Django's admin, with our site in place of its own."""

    default = False
    default_site = "accounts.site.OperatorSite"
