"""What the admin classes of every application share: who acts, what is audited, and what nobody may edit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, cast
from urllib.parse import urlsplit
from uuid import UUID

from django.contrib import messages
from django.contrib.admin import ShowFacets
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import SEARCH_VAR
from django.db import models
from django.db.models import QuerySet
from django.forms import BaseModelFormSet, ModelForm
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.http import urlencode
from unfold.admin import ModelAdmin
from unfold.decorators import display
from unfold.paginator import InfinitePaginator
from unfold.views import ChangeList
from unfold.widgets import UnfoldAdminTextareaWidget

from accounts import audit
from accounts.authentication import client_ip, user_agent
from accounts.caller import Caller
from accounts.exceptions import DomainError
from accounts.models import User


def operator(request: HttpRequest) -> Caller:
    """The signed-in operator, as services know who acts."""
    user = cast("User", request.user)
    return Caller(
        user_id=user.pk,
        email=user.email or "",
        is_staff=True,
        is_superuser=user.is_superuser,
        permissions=frozenset(user.get_all_permissions()),
        channel="admin",
        ip=client_ip(request),
        user_agent=user_agent(request),
    )


class RowList(ChangeList):
    """A list that takes no broken filters, and offers "Show all" only where something is left out."""

    def get_filters(self, request: HttpRequest) -> Any:
        """PostgreSQL's texts cannot hold NUL, so a filter that has one is none."""
        if any("\0" in value for name, values in request.GET.lists() if name != SEARCH_VAR for value in values):
            raise IncorrectLookupParameters
        return super().get_filters(request)

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        if not (self.query or self.has_active_filters):
            self.full_result_count = self.result_count


class OperatorAdmin(ModelAdmin):
    """The base of all admin classes."""

    list_per_page = 50
    # Counting the whole of a large table costs more than showing a page of it.
    show_full_result_count = False
    show_facets = ShowFacets.NEVER
    formfield_overrides: ClassVar = {
        models.TextField: {"widget": UnfoldAdminTextareaWidget(attrs={"rows": 3})},
        models.JSONField: {"widget": UnfoldAdminTextareaWidget(attrs={"rows": 4})},
    }
    list_before_template = "admin/purpose.html"
    # What the page is for, in words for somebody who opens it for the first time; shown above the list.
    purpose = ""
    # Whether audit events speak of these rows; the button "History" leads there.
    has_history = True

    @display(description="ID", ordering="pk")
    def row_id(self, row: models.Model) -> str:
        return str(row.pk)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return RowList

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Without Django's "delete selected": what may be deleted at all is deleted one by one, and on purpose."""
        actions: dict[str, Any] = super().get_actions(request)
        actions.pop("delete_selected", None)
        return actions

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """A whole id finds its row by the primary key, however large the table is."""
        if isinstance(self.model._meta.pk, models.UUIDField) and (pk := as_uuid(search_term)):
            return queryset.filter(pk=pk), False
        found: tuple[QuerySet[Any], bool] = super().get_search_results(request, queryset, search_term)
        return found

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """A service that refuses what the form let through is answered with its sentence; nothing is written."""
        context = {"show_history": self.has_history, **(extra_context or {})}
        try:
            return cast("HttpResponse", super().changeform_view(request, object_id, form_url, context))
        except DomainError as refusal:
            self.message_user(request, str(refusal), messages.ERROR)
            return HttpResponseRedirect(request.get_full_path())

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The audit events that speak of the object: they know more than the admin's own log."""
        query = urlencode({"target_type__exact": self.model._meta.label_lower, "target_id__exact": object_id})
        return HttpResponseRedirect(f"{reverse('admin:accounts_auditevent_changelist')}?{query}")

    def find(self, request: HttpRequest, object_id: str) -> Any:
        """The object that an action was asked for; 404 if there is none."""
        found = self.get_object(request, object_id)
        if found is None:
            raise Http404
        return found

    def carry_out(
        self, request: HttpRequest, done: str | Callable[[Any], str], service: Callable[..., Any], **arguments: Any
    ) -> HttpResponse:
        """Call a service for a dialog and go back to the page that the dialog was opened on, with a message.

        `done` is the message, or makes it of what the service has answered.
        """
        try:
            result = service(**arguments, by=operator(request))
        except DomainError as refusal:
            self.message_user(request, str(refusal), messages.ERROR)
        else:
            self.message_user(request, done if isinstance(done, str) else done(result), messages.SUCCESS)
        return self.go_back(request)

    def go_back(self, request: HttpRequest) -> HttpResponse:
        opener = urlsplit(request.headers.get("HX-Current-URL", ""))
        if opener.path.startswith(reverse("admin:index")):
            return HttpResponse(
                headers={"HX-Redirect": f"{opener.path}?{opener.query}" if opener.query else opener.path}
            )
        return HttpResponseRedirect(reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist"))


class HistoryAdmin(OperatorAdmin):
    """For tables that only grow, and that nobody edits: everything is shown, nothing can be changed."""

    paginator = InfinitePaginator
    has_history = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False


class AuditedAdmin(OperatorAdmin):
    """For rows that are saved here directly, without a service.

    Each change writes an audit event in its own transaction, which names the fields but holds none of their values.
    """

    def save_related(
        self, request: HttpRequest, form: ModelForm[Any], formsets: list[BaseModelFormSet[Any, Any]], change: bool
    ) -> None:
        super().save_related(request, form, formsets, change)
        fields = changed_fields(form, formsets)
        if fields or not change:
            self.record("updated" if change else "created", request, form.instance, fields=fields)

    def delete_model(self, request: HttpRequest, obj: models.Model) -> None:
        self.record("deleted", request, obj, name=str(obj))
        super().delete_model(request, obj)

    def record(self, what: str, request: HttpRequest, target: models.Model, **metadata: Any) -> None:
        audit.record(f"{self.opts.model_name}.{what}", by=operator(request), target=target, **metadata)


def changed_fields(form: ModelForm[Any], formsets: list[BaseModelFormSet[Any, Any]]) -> list[str]:
    """The names of what was changed on a form; rows of inlines as `limits: <the row>`."""
    fields = list(form.changed_data)
    for formset in formsets:
        rows = [*formset.new_objects, *(row for row, _names in formset.changed_objects), *formset.deleted_objects]
        fields += [f"{formset.prefix}: {row}" for row in rows]
    return fields


def as_uuid(text: str) -> UUID | None:
    try:
        return UUID(text.strip())
    except ValueError:
        return None
