"""Who is there now, on each channel."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.defaultfilters import date
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.timezone import localtime

from accounts.admin.base import AuditedAdmin
from accounts.admin.display import EMPTY, link_to
from accounts.models import User
from conversations import channels, presence
from conversations.presence import Presence, Seen

MOST_PEOPLE = 50


class PresenceAdmin(AuditedAdmin):
    """The page of who is there, below those of the channels."""

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.presence)
        return [path("presence/", view, name="conversations_channelconfig_presence"), *super().get_urls()]

    def presence(self, request: HttpRequest) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        found = presence.of(channels.names())
        people = {row.channel: presence.latest(channel=row.channel, most=MOST_PEOPLE) for row in found if row.count}
        users = User.objects.in_bulk({seen.user_id for rows in people.values() for seen in rows})
        context = {
            **self.admin_site.each_context(request),
            "title": "Presence",
            "counts": _table(["Channel", "People", "Last seen"], map(_count_row, found)),
            "people": [(name, _people_table(rows, users)) for name, rows in people.items()],
        }
        return TemplateResponse(request, "admin/conversations/channelconfig/presence.html", context)


def _count_row(row: Presence) -> list[Any]:
    return [row.channel, row.count, _moment(row.last_seen)]


def _people_table(rows: list[Seen], users: dict[UUID, User]) -> dict[str, Any]:
    return _table(["Person", "Last seen"], ([link_to(users.get(row.user_id)), _moment(row.at)] for row in rows))


def _table(headers: list[str], rows: Any) -> dict[str, Any]:
    return {"headers": headers, "rows": list(rows)}


def _moment(at: Any) -> str:
    return date(localtime(at), "DATETIME_FORMAT") if at else EMPTY
