from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from accounts.exceptions import Conflict, DomainError, NotFound, TooManyRequests
from quotas.meters import Meter


class QuotaExceeded(DomainError):
    """The amount does not fit. `resets_at` is when what is used begins anew; None if it never does by itself.

    `quota_ids` are those of the quotas that refused.
    """

    code = "insufficient_quota"
    message = "The quota does not cover this call."
    holder, what, whole = "You have", "quota", "your whole quota"
    quota_ids: Sequence[UUID] = ()

    def __init__(
        self,
        *,
        meter: Meter | None = None,
        limit: int = 0,
        remaining: int = 0,
        needed: int = 0,
        resets_at: datetime | None = None,
    ) -> None:
        self.meter, self.limit, self.remaining, self.needed = meter, limit, remaining, needed
        self.resets_at = resets_at
        super().__init__(self._sentence())

    @property
    def fits_ever(self) -> bool:
        """Whether the whole of the limit would do."""
        return self.needed <= self.limit

    def _sentence(self) -> str:
        if self.meter is None:
            return "Your plan does not include this resource, or not by these units."
        if not self.fits_ever:
            return f"This call needs {self.needed} {self.meter}, more than {self.whole} of {self.limit}."
        text = f"{self.holder} {self.remaining} of {self.limit} {self.meter} left, less than this call needs."
        if self.resets_at is not None:
            text += f" The {self.what} resets at {self.resets_at.isoformat().replace('+00:00', 'Z')}."
        return text


class KeyBudgetExceeded(QuotaExceeded):
    """The user's quotas would do; the budget of the API key that calls is too small."""

    code = "insufficient_quota_of_key"
    message = "The budget of this API key does not cover this call."
    holder, what, whole = "The budget of this API key has", "budget", "the whole budget of this API key"


class ReservationNotFound(NotFound):
    message = "No such reservation."


class ReservationNotHeld(Conflict):
    code = "reservation_not_held"
    message = "The reservation is settled, released or expired already."


class IdempotencyMismatch(DomainError):
    code = "idempotency_key_reused"
    message = "This idempotency key was used for another call."


class IdempotencyKeyInUse(Conflict):
    code = "idempotency_key_in_use"
    message = "The call with this idempotency key is still running."
    retryable = True


class AnswerNotKept(Conflict):
    """The call was carried out and charged; asking again changes nothing."""

    code = "idempotency_answer_not_kept"
    message = "The call with this idempotency key was carried out, but its answer was too large to be kept."


class BillingNotConfigured(DomainError):
    code = "billing_not_configured"
    message = "This installation does not sell plans: it has no keys for Stripe."


class StripeUnavailable(DomainError):
    """Stripe cannot be reached, or does not take our key. What was asked for may have been done all the same."""

    code = "stripe_unavailable"
    message = "Stripe does not answer. Try again."
    retryable = True


class StripeRefused(Conflict):
    """Stripe has understood, and does not do it."""

    code = "stripe_refused"
    message = "Stripe refused."


class PaymentFailed(StripeRefused):
    code = "payment_failed"
    message = "The payment failed."


class CustomerUnknown(StripeRefused):
    code = "customer_unknown"
    message = "Stripe does not know this customer."


class CheckoutInProgress(Conflict):
    """The same may be asked for again in a moment."""

    code = "checkout_in_progress"
    message = "A page on which to buy is being opened already. Try again."
    retryable = True


class RateLimitExceeded(TooManyRequests):
    """Too many requests or tokens in a window, such as `a minute`; the call is let in after `retry_after` seconds."""

    def __init__(self, *, who: str, limit: int, unit: str, window: str, retry_after: int) -> None:
        seconds = "1 second" if retry_after == 1 else f"{retry_after} seconds"
        count = f"{limit} {unit.removesuffix('s') if limit == 1 else unit}"
        super().__init__(f"{who} may use {count} {window}. Try again in {seconds}.", retry_after=retry_after)
