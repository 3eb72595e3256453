"""What becomes of a user's request history."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from accounts.belongings import Belonging
from inference import services
from inference.models import Request


def _lock(user_ids: Collection[UUID]) -> None:
    """Only those that still run: nobody else writes the others."""
    running = Request.objects.filter(user_id__in=user_ids, status=Request.Status.RUNNING)
    list(running.select_for_update(no_key=True).order_by("pk").values_list("pk", flat=True))


def _erase(user_id: UUID) -> None:
    """What was used and paid stays; what was asked and answered goes.

    Running calls are ended and charged here: they find that they are over, and write nothing any more.
    """
    services.end_running(user_id=user_id)
    Request.objects.filter(user_id=user_id).update(request_data={}, response_data=None, error_message="")


BELONGINGS = [
    Belonging(
        model=Request,
        section="requests",
        page=100,
        fields=(
            *("id", "request_type", "model", "provider", "is_stream", "status", "error_code", "error_message"),
            *("usage", "input_tokens", "cached_input_tokens", "output_tokens", "seconds", "characters", "cost"),
            *("processing_time", "first_byte_time", "request_data", "response_data", "api_key_id", "reservation_id"),
            *("created_at", "finished_at"),
        ),
        lock=_lock,
        erase=_erase,
    )
]
