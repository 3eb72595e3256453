from __future__ import annotations

from datetime import datetime

from accounts.exceptions import Conflict, DomainError, NotFound, TooManyRequests
from quotas.meters import Meter


class QuotaExceeded(DomainError):
    """The amount does not fit. `resets_at` is when asking again makes sense; None if it never will by itself."""

    code = "insufficient_quota"
    message = "The quota does not cover this call."
    holder, what = "You have", "quota"

    def __init__(
        self, *, meter: Meter | None = None, limit: int = 0, remaining: int = 0, resets_at: datetime | None = None
    ) -> None:
        self.meter, self.limit, self.remaining, self.resets_at = meter, limit, remaining, resets_at
        super().__init__(self._sentence())

    def _sentence(self) -> str:
        if self.meter is None:
            return "Your plan does not include this resource."
        text = f"{self.holder} {self.remaining} of {self.limit} {self.meter} left, less than this call needs."
        if self.resets_at is not None:
            text += f" The {self.what} resets at {self.resets_at.isoformat().replace('+00:00', 'Z')}."
        return text


class KeyBudgetExceeded(QuotaExceeded):
    """The user's quotas would do; the budget of the API key that calls is too small."""

    code = "insufficient_quota_of_key"
    message = "The budget of this API key does not cover this call."
    holder, what = "The budget of this API key has", "budget"


class ReservationNotFound(NotFound):
    message = "No such reservation."


class ReservationNotHeld(Conflict):
    code = "reservation_not_held"
    message = "The reservation is settled, released or expired already."


class IdempotencyMismatch(DomainError):
    code = "idempotency_key_reused"
    message = "This idempotency key was used for other amounts."


class RateLimitExceeded(TooManyRequests):
    """Too many requests or tokens in a window, such as `a minute`; the call is let in after `retry_after` seconds."""

    def __init__(self, *, who: str, limit: int, unit: str, window: str, retry_after: int) -> None:
        seconds = "1 second" if retry_after == 1 else f"{retry_after} seconds"
        count = f"{limit} {unit.removesuffix('s') if limit == 1 else unit}"
        super().__init__(f"{who} may use {count} {window}. Try again in {seconds}.", retry_after=retry_after)
