from django.apps import AppConfig


class ConfigConfig(AppConfig):
    """The installation itself: its commands, its error shape, its checks."""

    name = "config"
