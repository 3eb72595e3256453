"""What is held on quotas, and was."""

from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesDropdownFilter
from unfold.decorators import display

from accounts.admin.base import HistoryAdmin
from accounts.admin.display import EMPTY, json_block, label, link_to_list
from accounts.models import User
from quotas.admin.display import amounts
from quotas.models import Reservation

RESERVATION_COLOURS: dict[str, str] = {
    Reservation.Status.HELD: "info",
    Reservation.Status.CONFIRMED: "success",
    Reservation.Status.EXPIRED: "warning",
}
# Its page is of an application above this one, so it is known by its address alone.
REQUESTS = "inference_request"


def link_to_request(reservation: Reservation, viewer: User) -> SafeString | str:
    """A link to the request that a reservation is held for, for those who may follow it."""
    if reservation.by_client:
        return "held over the API"
    if not viewer.has_perm("inference.view_request"):
        return EMPTY
    return link_to_list("request", REQUESTS, reservation__id__exact=reservation.pk)


@admin.register(Reservation)
class ReservationAdmin(HistoryAdmin):
    purpose = (
        "What calls hold on quotas while they run, and what came of it. A hold ends with its call; one that is left "
        "over is let go when its time is over."
    )
    list_display = ("created_at", "user", "shown_status", "shown_amounts", "shown_used", "expires_at", "settled_at")
    list_select_related = ("user",)
    list_filter = (
        ("status", ChoicesDropdownFilter),
        ("user", AutocompleteSelectFilter),
        ("created_at", admin.DateFieldListFilter),
    )
    list_filter_submit = True
    search_fields = ("user__email", "=idempotency_key")
    search_help_text = "User's e-mail, idempotency key, or id"
    ordering = ("-id",)
    fieldsets = (
        (None, {"fields": (("user", "shown_status"), ("row_id", "idempotency_key"), "held_for")}),
        ("Amounts", {"fields": (("shown_amounts", "shown_used"), ("shown_holds", "shown_charged"))}),
        ("Time", {"fields": ("created_at", ("expires_at", "settled_at"))}),
    )

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Reservation | None:
        """The reservation also knows who looks at the page, so that no link is drawn that leads to a refusal."""
        found: Reservation | None = super().get_object(request, object_id, from_field)
        if found is not None:
            found.viewer = request.user  # type: ignore[attr-defined]
        return found

    @display(description="held for")
    def held_for(self, reservation: Reservation) -> SafeString | str:
        viewer: User | None = getattr(reservation, "viewer", None)
        return EMPTY if viewer is None else link_to_request(reservation, viewer)

    @display(description="status", ordering="status")
    def shown_status(self, reservation: Reservation) -> SafeString:
        return label(reservation.get_status_display(), RESERVATION_COLOURS.get(reservation.status, ""))

    @display(description="held")
    def shown_amounts(self, reservation: Reservation) -> str:
        return amounts(reservation.amounts)

    @display(description="used")
    def shown_used(self, reservation: Reservation) -> str:
        return amounts(reservation.used)

    @display(description="held on quotas")
    def shown_holds(self, reservation: Reservation) -> SafeString | str:
        return json_block(reservation.holds)

    @display(description="charged to quotas")
    def shown_charged(self, reservation: Reservation) -> SafeString | str:
        return json_block(reservation.charged)
