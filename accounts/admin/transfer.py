"""Lists that operators take away as CSV and bring back: the one way to do so in this admin.

A page becomes such a list by `class ThingAdmin(TransferAdmin)` with `resource_classes = (ThingResource,)`, where
`ThingResource(TransferResource)` names the columns. An import shows first what it would do, row by row. It is carried
out whole or not at all, in one transaction, with an audit event for each row.
"""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.cache import cache
from django.core.exceptions import ValidationError
from django.db import models
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html
from import_export.admin import ImportExportMixin
from import_export.formats.base_formats import CSV
from import_export.resources import Diff, ModelResource
from import_export.results import Result, RowResult
from import_export.tmp_storages import CacheStorage
from import_export.widgets import Widget
from tablib import Dataset
from unfold.contrib.import_export.forms import ImportForm

from accounts import audit
from accounts.admin.base import AuditedAdmin, operator
from accounts.audit_export import FORMULA_STARTS
from accounts.caller import Caller
from accounts.csv_files import rows_of
from accounts.exceptions import InvalidInput

MOST_BYTES = 500_000
MOST_ROWS = 1000


class UploadedRows(Dataset):
    """The rows of a file. `faults` are what is wrong with the shape of some, by their numbers from 1."""

    def __init__(self, *rows: Any, **kwargs: Any) -> None:
        super().__init__(*rows, **kwargs)
        self.faults: dict[int, str] = {}


class GuardedCsv(CSV):
    """CSV in which no cell is a formula to a spreadsheet: such a text gets an apostrophe, which an import takes off."""

    def export_data(self, dataset: Dataset, **kwargs: Any) -> str:
        guarded = Dataset(headers=dataset.headers)
        for row in dataset:
            guarded.append([f"'{cell}" if str(cell).startswith(FORMULA_STARTS) else cell for cell in row])
        return str(super().export_data(guarded, **kwargs))

    def create_dataset(self, in_stream: bytes, **kwargs: Any) -> Dataset:
        """`InvalidInput` for what is no CSV. A row with too many cells is kept, and refused when its turn comes."""
        rows = rows_of(in_stream)
        dataset = UploadedRows(headers=next(rows, (1, []))[1])
        width = len(dataset.headers or [])
        for line, row in rows:
            if len(row) > width:
                dataset.faults[len(dataset) + 1] = f"Line {line} has {len(row)} cells instead of {width}."
            cells = [cell[1:] if cell[:1] == "'" and cell[1:2] in FORMULA_STARTS else cell for cell in row]
            dataset.append([*cells, *[""] * (width - len(cells))][:width])
        return dataset


class UploadStorage(CacheStorage):
    """Keeps an upload until its import is confirmed, in Redis: any process may be the one that is asked."""

    CACHE_LIFETIME = 3600

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.is_confirmed = self.name is not None

    def read(self) -> bytes:
        """The first who confirms takes it away: what is confirmed twice at once is imported once."""
        data: bytes | None = super().read()
        if data is None or (self.is_confirmed and not cache.delete(self.CACHE_PREFIX + self.name)):
            raise InvalidInput("The file is not kept any more: upload it again.")
        return data


class UploadForm(ImportForm):
    def clean_import_file(self) -> Any:
        file = self.cleaned_data["import_file"]
        if file.size > MOST_BYTES:
            raise ValidationError(f"A file has at most {MOST_BYTES // 1000} kB.")
        return file


class FormFieldWidget(Widget):
    """Reads and writes a cell as a field of a form does, so that a file and a form say the same about a value."""

    def __init__(self, field: forms.Field) -> None:
        super().__init__()
        self.field = field

    def clean(self, value: Any, row: Any = None, **kwargs: Any) -> Any:
        try:
            return self.field.clean(value)
        except ValidationError as refused:
            raise ValueError(" ".join(refused.messages)) from None

    def render(self, value: Any, obj: Any = None, **kwargs: Any) -> str:
        return "" if value is None else str(self.field.prepare_value(value))


class PlainDiff(Diff):
    """What was and what will be, in the theme's own colours."""

    def as_html(self) -> list[Any]:
        pairs = zip(self.left, self.right, strict=True)
        return [new if self.new or old == new else format_html("<s>{}</s> {}", old, new) for old, new in pairs]


class TransferResource(ModelResource):
    """The columns of a file, and what becomes of its rows.

    Name `model`, `fields` and `import_id_fields` (which tell whether a row is new) in `Meta`. What the model's own
    validation refuses is an error of the row. A row that changes nothing is left out.
    """

    class Meta:
        skip_unchanged = True
        report_skipped = True
        clean_model_instances = True
        use_transactions = True

    def __init__(self, by: Caller | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.by = by
        self.faults: dict[int, str] = {}

    @classmethod
    def get_diff_class(cls) -> type[Diff]:
        return PlainDiff

    def before_import(self, dataset: Dataset, **kwargs: Any) -> None:
        """Refuse a file as a whole: then its rows are not looked at."""
        self.faults = getattr(dataset, "faults", {})
        known, given, rows = self.get_export_headers(), dataset.headers or [], len(dataset)
        if sorted(given) == sorted(known) and rows <= MOST_ROWS:
            return
        dataset.wipe()
        if rows > MOST_ROWS:
            raise InvalidInput(f"A file has at most {MOST_ROWS:,} rows.")
        raise InvalidInput(f"The first line must name these columns: {', '.join(known)}.")

    def before_import_row(self, row: Any, **kwargs: Any) -> None:
        if fault := self.faults.get(kwargs["row_number"]):
            raise ValidationError(fault)

    def get_instance(self, instance_loader: Any, row: Any) -> Any:
        """The row that is meant; none where a cell makes no sense, which is said when the cell is imported."""
        try:
            return super().get_instance(instance_loader, row)
        except ValueError:
            return None

    def do_instance_save(self, instance: models.Model, is_create: bool) -> None:
        super().do_instance_save(instance, is_create)
        done = "created" if is_create else "updated"
        audit.record(f"{instance._meta.model_name}.{done}", by=self.by, target=instance, imported=True)


class TransferAdmin(ImportExportMixin, AuditedAdmin):
    """A list with the buttons "Import" and "Export".

    Who may see the list may export it, as its search and filters leave it; who may add and change its rows may import.
    """

    formats = import_formats = export_formats = (GuardedCsv,)
    import_form_class = UploadForm
    tmp_storage_class = UploadStorage
    skip_export_form = True
    # The audit events tell more.
    skip_admin_log = True

    def has_import_permission(self, request: HttpRequest) -> bool:
        return bool(self.has_add_permission(request) and self.has_change_permission(request))

    def has_export_permission(self, request: HttpRequest) -> bool:
        return bool(self.has_view_permission(request))

    def get_resource_kwargs(self, request: HttpRequest, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return {"by": operator(request)}

    def get_import_data_kwargs(self, **kwargs: Any) -> dict[str, Any]:
        return {"rollback_on_validation_errors": True}

    def add_data_read_fail_error_to_form(self, form: forms.Form, e: Exception) -> None:
        form.add_error("import_file", str(e) if isinstance(e, InvalidInput) else "This is no CSV file in UTF-8.")

    def get_export_data(self, file_format: CSV, request: HttpRequest, queryset: Any, **kwargs: Any) -> Any:
        data = super().get_export_data(file_format, request, queryset, **kwargs)
        audit.record(f"{self.opts.model_name}.exported", by=operator(request), rows=queryset.count())
        return data

    def process_import(self, request: HttpRequest, **kwargs: Any) -> HttpResponse:
        try:
            answer: HttpResponse = super().process_import(request, **kwargs)
        except InvalidInput as refusal:
            return self.not_imported(request, str(refusal))
        return answer

    def process_result(self, result: Result, request: HttpRequest) -> HttpResponse:
        """Between the preview and its confirmation, rows may have become what they must not be."""
        if result.has_errors() or result.has_validation_errors():
            return self.not_imported(request, "Nothing was imported, for what is stored has changed: upload it again.")
        answer: HttpResponse = super().process_result(result, request)
        return answer

    def not_imported(self, request: HttpRequest, why: str) -> HttpResponse:
        self.message_user(request, why, "ERROR")
        return HttpResponseRedirect(reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_import"))

    def add_success_message(self, result: Result, request: HttpRequest) -> None:
        new, changed = result.totals[RowResult.IMPORT_TYPE_NEW], result.totals[RowResult.IMPORT_TYPE_UPDATE]
        same = result.totals[RowResult.IMPORT_TYPE_SKIP]
        self.message_user(request, f"Imported: {new} new, {changed} changed, {same} as they were.")
