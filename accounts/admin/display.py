"""How values are shown that the theme does not show well."""

from __future__ import annotations

import json
from typing import Any

from django.db.models import Model
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString

EMPTY = "-"


def json_block(value: Any) -> SafeString | str:
    """JSON, indented; text inside it keeps its own letters."""
    if value is None or value in ({}, []):
        return EMPTY
    return format_html('<pre class="json-block">{}</pre>', json.dumps(value, indent=2, ensure_ascii=False, default=str))


def label(text: str, colour: str = "") -> SafeString:
    """A coloured word; `colour` is one of the theme's: info, success, warning, danger or none."""
    return render_to_string("unfold/helpers/label.html", {"text": text, "type": colour})


def link_to(row: Model | None, text: str = "") -> SafeString | str:
    """A link to a row's own page."""
    if row is None:
        return EMPTY
    address = reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk])
    return format_html('<a class="text-link" href="{}">{}</a>', address, text or str(row))


def link_to_list(text: str, app_and_model: str, **filters: Any) -> SafeString:
    """A link to a changelist, filtered."""
    address = reverse(f"admin:{app_and_model}_changelist")
    return format_html('<a class="text-link" href="{}?{}">{}</a>', address, urlencode(filters), text)
