"""What the beat has done, and how often. Each task may run at any time and as often as one likes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from celery.schedules import crontab

SCHEDULE: dict[str, dict[str, Any]] = {
    "sweep-reservations": {"task": "inference.tasks.sweep_reservations", "schedule": timedelta(seconds=30)},
    "reset-quotas": {"task": "quotas.tasks.reset_quotas", "schedule": timedelta(minutes=5)},
    "apply-changed-limits": {"task": "quotas.tasks.apply_changed_limits", "schedule": timedelta(minutes=5)},
    # One that has not begun when the next is due has nothing left to do.
    "dispatch-events": {
        "task": "quotas.tasks.dispatch_events",
        "schedule": timedelta(seconds=10),
        "options": {"expires": 10},
    },
    "deliver-webhooks": {
        "task": "quotas.tasks.deliver_webhooks",
        "schedule": timedelta(seconds=5),
        "options": {"expires": 5},
    },
    "advance-subscriptions": {"task": "quotas.tasks.advance_subscriptions", "schedule": timedelta(minutes=2)},
    "sync-stripe": {"task": "quotas.tasks.sync_stripe", "schedule": crontab(hour=3, minute=41)},
    "flush-exposures": {"task": "quotas.tasks.flush_exposures", "schedule": timedelta(minutes=5)},
    "tend-intents": {
        "task": "prompts.tasks.tend_intents",
        "schedule": timedelta(seconds=20),
        "options": {"expires": 20},
    },
    "tend-search": {
        "task": "prompts.tasks.tend_search",
        "schedule": timedelta(seconds=10),
        "options": {"expires": 10},
    },
    "manage-partitions": {"task": "conversations.tasks.manage_partitions", "schedule": crontab(minute=7)},
    "rollup-usage": {"task": "analytics.tasks.rollup_usage", "schedule": crontab(minute="*/10")},
    "cleanup": {"task": "config.tasks.cleanup", "schedule": crontab(minute=17)},
}
