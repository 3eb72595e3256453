"""How tests use the admin: forms as a browser sends them, dialogs as the theme's script does."""

from typing import Any

from django.db.models import Model
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse


def page(row_or_model: Model | type[Model], name: str = "change") -> str:
    """The address of a page: `page(user)`, `page(User, "changelist")`, `page(User, "add")`."""
    opts = row_or_model._meta
    arguments = [row_or_model.pk] if isinstance(row_or_model, Model) else []
    return reverse(f"admin:{opts.app_label}_{opts.model_name}_{name}", args=arguments)


def filled_form(client: Client, address: str, **changes: Any) -> dict[str, Any]:
    """What a browser would send if somebody opened the form and changed only `changes`; None leaves a field out."""
    response = client.get(address)
    assert response.status_code == 200, response
    context = response.context
    forms = [context["adminform"].form]
    data: dict[str, Any] = {}
    for inline in context["inline_admin_formsets"]:
        forms += [inline.formset.management_form, *inline.formset.initial_forms]
    for form in forms:
        for bound in form:
            data |= _values(bound)
    return {name: value for name, value in (data | changes).items() if value is not None}


def save(client: Client, address: str, **changes: Any) -> HttpResponse:
    return client.post(address, filled_form(client, address, **changes))


def act(client: Client, row: Model, action: str, **fields: Any) -> HttpResponse:
    """Fill in and send the dialog of an action."""
    address = page(row, action)
    assert client.get(address).status_code == 200
    return client.post(address, {"_form_submitted": "on", **fields}, headers={"HX-Current-URL": f"http://x{page(row)}"})


def messages(response: HttpResponse, client: Client) -> list[str]:
    """What the page that the answer leads to says."""
    target = response.headers.get("HX-Redirect") or response.headers["Location"]
    return [str(message) for message in client.get(target).context["messages"]]


def _values(bound: Any) -> dict[str, Any]:
    value = bound.value()
    subwidgets = getattr(bound.field.widget, "widgets", None)
    if subwidgets:
        parts = [(number, part) for number, part in enumerate(bound.field.widget.decompress(value)) if part is not None]
        names = [bound.html_name, bound.html_initial_name] if bound.field.show_hidden_initial else [bound.html_name]
        return {f"{name}_{number}": part for name in names for number, part in parts}
    if value is None or value is False:
        return {}
    sent = {bound.html_name: "on" if value is True else value}
    # Where the default is made by a function, the form carries along what it began with.
    return sent | ({bound.html_initial_name: value} if bound.field.show_hidden_initial else {})
