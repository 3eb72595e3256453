"""Files whose rows are carried out by services, on top of `accounts.admin.transfer`.

A page takes such files by `class ThingAdmin(ServiceTransferAdmin)` with `resource_classes` for what goes out and
`import_resource_classes` for what comes in; the latter are `ServiceResource`s. The preview carries out each row and
takes it back at once, so it refuses what the import would. The import is carried out whole or not at all, unless the
operator asks for the good rows alone; and in one transaction either way.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, ClassVar

from django import forms
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from import_export.fields import Field
from import_export.forms import ConfirmImportForm
from import_export.results import Result, RowResult
from tablib import Dataset
from unfold.widgets import UnfoldBooleanWidget

from accounts.admin.transfer import TransferAdmin, TransferResource, UploadForm
from accounts.caller import Caller
from accounts.exceptions import DomainError

# A file is made in memory.
MOST_EXPORTED = 50_000
# Characters of a cell in the preview.
MOST_SHOWN = 1000
NEW: str = RowResult.IMPORT_TYPE_NEW
CHANGED: str = RowResult.IMPORT_TYPE_UPDATE
SAME: str = RowResult.IMPORT_TYPE_SKIP


class RowsForm(UploadForm):
    good_rows = forms.BooleanField(
        label="Import the good rows",
        required=False,
        widget=UnfoldBooleanWidget,
        help_text="Leave out the rows that have errors. Otherwise one error keeps all rows out.",
    )


class ConfirmRowsForm(ConfirmImportForm):
    good_rows = forms.BooleanField(required=False, widget=forms.HiddenInput)


class ServiceResource(TransferResource):
    """What becomes of the rows of a file. `row_form` names the columns and checks the cells; `carry_out` does it."""

    row_form: ClassVar[type[forms.Form]]
    by: Caller

    class Meta:
        import_id_fields = ()

    def __init__(self, by: Caller, **kwargs: Any) -> None:
        super().__init__(by=by, **kwargs)
        self.fields = {name: Field(column_name=name) for name in self.row_form.base_fields}
        self.seen: set[Hashable] = set()

    def carry_out(self, cells: dict[str, Any]) -> str:
        """Call the service for a row's checked cells; whether something is NEW, CHANGED or the SAME."""
        raise NotImplementedError

    def lock(self, dataset: Dataset) -> None:
        """Lock all that the rows will change, in the order in which everybody locks it: rows come in any order."""
        raise NotImplementedError

    def only_once(self, *meant: Hashable) -> None:
        if meant in self.seen:
            raise ValidationError("An earlier row says something about the same.")
        self.seen.add(meant)

    def import_data_inner(self, dataset: Dataset, dry_run: bool, *args: Any, **kwargs: Any) -> Result:
        if not dry_run and set(dataset.headers or ()) == self.fields.keys():
            self.lock(dataset)
        return super().import_data_inner(dataset, dry_run, *args, **kwargs)

    def import_row(self, row: dict[str, Any], instance_loader: Any, **kwargs: Any) -> RowResult:
        result = RowResult()
        result.diff = [(row.get(name) or "")[:MOST_SHOWN] for name in self.fields]
        try:
            self.before_import_row(row, **kwargs)
            result.import_type = self._carry_out(row, keep=not kwargs["dry_run"])
        except ValidationError as error:
            result.import_type, result.validation_error = RowResult.IMPORT_TYPE_INVALID, error
        return result

    def _carry_out(self, row: dict[str, Any], *, keep: bool) -> str:
        """A row that is taken back lets go of its locks at once, so a preview does not keep callers waiting."""
        form = self.row_form(row)
        if not form.is_valid():
            raise ValidationError(form.errors.as_data())
        try:
            with transaction.atomic():
                done = self.carry_out(form.cleaned_data)
                transaction.set_rollback(not keep)
        except DomainError as refusal:
            raise ValidationError(str(refusal)) from None
        return done


class ServiceTransferAdmin(TransferAdmin):
    """Without `import_resource_classes`, the list has the button "Export" alone."""

    import_resource_classes: tuple[type[ServiceResource], ...] = ()
    import_note = ""
    import_form_class = RowsForm
    confirm_form_class = ConfirmRowsForm
    import_template_name = "admin/rows_import.html"

    def may_import(self, request: HttpRequest) -> bool:
        return bool(self.has_change_permission(request))

    def has_import_permission(self, request: HttpRequest) -> bool:
        return bool(self.import_resource_classes) and self.may_import(request)

    def get_import_resource_classes(self, request: HttpRequest) -> tuple[type[ServiceResource], ...]:
        return self.import_resource_classes

    def get_import_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return {"import_note": self.import_note}

    def get_confirm_form_initial(self, request: HttpRequest, import_form: Any) -> dict[str, Any]:
        initial: dict[str, Any] = super().get_confirm_form_initial(request, import_form)
        return initial | {"good_rows": import_form.cleaned_data["good_rows"]} if import_form else initial

    def get_import_data_kwargs(self, **kwargs: Any) -> dict[str, Any]:
        return {"rollback_on_validation_errors": not kwargs["form"].cleaned_data["good_rows"]}

    def import_action(self, request: HttpRequest, **kwargs: Any) -> HttpResponse:
        """Rows with errors do not keep the good ones from being offered, if that is what was asked for."""
        answer: Any = super().import_action(request, **kwargs)
        form, result = answer.context_data["form"], answer.context_data.get("result")
        if result and form.cleaned_data["good_rows"] and result.valid_rows() and not result.has_errors():
            answer.context_data["confirm_form"] = self.create_confirm_form(request, import_form=form)
        return answer  # type: ignore[no-any-return]

    def process_dataset(self, dataset: Dataset, form: Any, request: HttpRequest, **kwargs: Any) -> Result:
        result = super().process_dataset(dataset, form, request, **kwargs)
        if form.cleaned_data["good_rows"]:
            result.invalid_rows = []
        return result

    def add_success_message(self, result: Result, request: HttpRequest) -> None:
        super().add_success_message(result, request)
        if left_out := result.totals[RowResult.IMPORT_TYPE_INVALID]:
            self.message_user(request, f"Left out: {left_out} that had errors.", "WARNING")

    def export_action(self, request: HttpRequest) -> HttpResponse:
        allowed = self.has_export_permission(request)
        if allowed and self.get_export_queryset(request)[: MOST_EXPORTED + 1].count() > MOST_EXPORTED:
            self.message_user(request, f"A file has at most {MOST_EXPORTED:,} rows: filter the list first.", "ERROR")
            changelist = reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist")
            return HttpResponseRedirect(f"{changelist}?{request.GET.urlencode()}")
        answer: HttpResponse = super().export_action(request)
        return answer
