"""The sidebar of the admin."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.urls import reverse, reverse_lazy


def admin_page(title: str, icon: str, app: str, model: str) -> dict[str, Any]:
    """An item of the admin's sidebar, for those who may see the page."""
    return {
        "title": title,
        "icon": icon,
        "link": reverse_lazy(f"admin:{app}_{model}_changelist"),
        "permission": lambda request: (
            request.user.has_perm(f"{app}.view_{model}") or request.user.has_perm(f"{app}.change_{model}")
        ),
    }


PLAYGROUND = reverse_lazy("admin:prompts_prompttemplate_playground")


def among_templates(request: HttpRequest) -> bool:
    """Whether this is a page of templates. The playground has an item of its own, and an address among theirs."""
    pages = reverse("admin:prompts_prompttemplate_changelist")
    return request.path.startswith(pages) and not request.path.startswith(str(PLAYGROUND))


PRESENCE = reverse_lazy("admin:conversations_channelconfig_presence")


def among_channels(request: HttpRequest) -> bool:
    """As among templates: the page of who is there has an item of its own."""
    pages = reverse("admin:conversations_channelconfig_changelist")
    return request.path.startswith(pages) and request.path != str(PRESENCE)


NAVIGATION: list[dict[str, Any]] = [
    {"items": [{"title": "Dashboard", "icon": "monitoring", "link": reverse_lazy("admin:index")}]},
    {
        "title": "People",
        "items": [
            admin_page("Users", "person", "accounts", "user"),
            admin_page("API keys", "key", "accounts", "apikey"),
            admin_page("Sessions", "devices", "accounts", "session"),
            admin_page("Channel identities", "alternate_email", "accounts", "channelidentity"),
            admin_page("Blacklisted tokens", "block", "accounts", "blacklistedtoken"),
            admin_page("Groups", "group", "auth", "group"),
            admin_page("Audit events", "policy", "accounts", "auditevent"),
        ],
    },
    {
        "title": "Plans and quotas",
        "items": [
            admin_page("Plans", "sell", "quotas", "plan"),
            admin_page("Plan limits", "rule", "quotas", "planlimit"),
            admin_page("Subscriptions", "card_membership", "quotas", "subscription"),
            admin_page("Stripe events", "webhook", "quotas", "stripeevent"),
            admin_page("Quotas", "speed", "quotas", "quota"),
            admin_page("Grants", "redeem", "quotas", "grant"),
            admin_page("Reservations", "hourglass_top", "quotas", "reservation"),
            admin_page("Feature flags", "flag", "quotas", "featureflag"),
            admin_page("Events", "notifications", "quotas", "event"),
            admin_page("Webhook endpoints", "webhook", "quotas", "webhookendpoint"),
            admin_page("Webhook deliveries", "outbox", "quotas", "webhookdelivery"),
        ],
    },
    {
        "title": "Inference",
        "items": [
            admin_page("Requests", "receipt_long", "inference", "request"),
            admin_page("Models", "neurology", "inference", "model"),
            admin_page("Prices", "payments", "inference", "price"),
            admin_page("Providers", "dns", "inference", "provider"),
        ],
    },
    {
        "title": "Content",
        "items": [
            admin_page("Conversations", "forum", "conversations", "conversation"),
            admin_page("Prompt templates", "description", "prompts", "prompttemplate") | {"active": among_templates},
            {
                "title": "Playground",
                "icon": "experiment",
                "link": PLAYGROUND,
                "permission": lambda request: request.user.has_perm("prompts.run_prompttemplate"),
            },
            admin_page("Channels", "hub", "conversations", "channelconfig") | {"active": among_channels},
            {
                "title": "Presence",
                "icon": "person_pin_circle",
                "link": PRESENCE,
                "permission": lambda request: request.user.has_perm("conversations.view_channelconfig"),
            },
            admin_page("Saved prompts", "bookmark", "prompts", "savedprompt"),
            admin_page("Collections", "folder", "prompts", "collection"),
            admin_page("Share links", "link", "prompts", "sharelink"),
            admin_page("Prompt history", "history", "prompts", "prompthistory"),
            admin_page("Techniques", "auto_fix_high", "prompts", "technique"),
            admin_page("Technique effectiveness", "grid_on", "prompts", "techniqueeffectiveness"),
            admin_page("Intent patterns", "label", "prompts", "intentpattern"),
            admin_page("Intent classifier", "model_training", "prompts", "intentclassifier"),
            admin_page("Daily statistics", "bar_chart", "analytics", "dailystat"),
        ],
    },
]
