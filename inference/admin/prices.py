"""What models take. A price that is valid, or was, is only shown; a change is a new price."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import admin
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.safestring import SafeString
from import_export.fields import Field
from import_export.widgets import Widget
from unfold.admin import TabularInline
from unfold.contrib.filters.admin import ChoicesDropdownFilter, DropdownFilter
from unfold.decorators import display

from accounts.admin.base import as_uuid
from accounts.admin.display import EMPTY, label, link_to
from accounts.admin.transfer import FormFieldWidget, TransferAdmin, TransferResource
from inference.admin.forms import PriceForm, UsdPerMillionField
from inference.admin.routes import RouteAdmin
from inference.models import Model, Price
from inference.routes import forget_routes

# How many of a unit are priced together, as people know it, and what that is called.
SOLD: dict[str, tuple[int, str]] = {
    Price.Unit.INPUT_TOKENS: (1_000_000, "a million input tokens"),
    Price.Unit.CACHED_INPUT_TOKENS: (1_000_000, "a million cached input tokens"),
    Price.Unit.OUTPUT_TOKENS: (1_000_000, "a million output tokens"),
    Price.Unit.CHARACTERS: (1_000_000, "a million characters"),
    Price.Unit.SECONDS: (60, "a minute"),
    Price.Unit.REQUESTS: (1, "a request"),
}
SHORT: dict[str, str] = {
    Price.Unit.INPUT_TOKENS: "in",
    Price.Unit.CACHED_INPUT_TOKENS: "cached in",
    Price.Unit.OUTPUT_TOKENS: "out",
    Price.Unit.CHARACTERS: "characters",
    Price.Unit.SECONDS: "a minute",
    Price.Unit.REQUESTS: "a request",
}


def dollars_of(price: Price) -> str:
    """`$0.006`, exactly, for as many units as are priced together."""
    exact = Decimal(price.price * SOLD[price.unit][0]).scaleb(-12).normalize()
    return f"${exact:,.2f}" if exact == round(exact, 2) else f"${exact:,f}"


def price_text(price: Price) -> str:
    return f"{dollars_of(price)} {SOLD[price.unit][1]}"


def current_prices(prices: list[Price]) -> str:
    """The prices of one model in one line."""
    by_unit = {price.unit: price for price in prices}
    return " · ".join(f"{SHORT[unit]} {dollars_of(by_unit[unit])}" for unit in SOLD if unit in by_unit) or EMPTY


def state_label(price: Price) -> SafeString:
    """Wants the annotation of `with_state`."""
    if not price.has_begun():
        return label("future", "info")
    return label("past") if getattr(price, "is_superseded", False) else label("current", "success")


class PriceInline(TabularInline):
    model = Price
    extra = 0
    hide_title = True

    @display(description="price")
    def shown_price(self, price: Price) -> str:
        return price_text(price)

    @display(description="state")
    def state(self, price: Price) -> SafeString:
        return state_label(price)


class ComingPriceInline(PriceInline):
    form = PriceForm
    fields = ("unit", "price", "valid_from")
    verbose_name = "price"
    verbose_name_plural = "New prices: each is valid from its date on, in UTC, until the next one for its unit"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Price]:
        prices: QuerySet[Price] = super().get_queryset(request)
        return prices.filter(valid_from__gt=timezone.now())


class PriceHistoryInline(PriceInline):
    fields = readonly_fields = ("unit", "shown_price", "valid_from", "state")
    verbose_name_plural = "Price history: what calls are charged by, and were"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Price]:
        now = timezone.now()
        begun = Price.objects.with_state(now).filter(valid_from__lte=now)
        return begun.order_by("unit", "-valid_from")

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class PlaceWidget(Widget):
    """A model in a file is its name, and its place in the order in which those of one name are tried."""

    def clean(self, value: Any, row: Any = None, **kwargs: Any) -> Model:
        place = str(row.get("fallback_order") or 0).strip()
        model = Model.objects.filter(name=value, fallback_order=place).first() if place.isdecimal() else None
        if model is None:
            raise ValueError(f"There is no model {value} with the order {place}.")
        return model

    def render(self, value: Model | None, obj: Any = None, **kwargs: Any) -> str:
        return value.name if value else ""


class PriceResource(TransferResource):
    model = Field("model", widget=PlaceWidget())
    fallback_order = Field("model__fallback_order", readonly=True)
    unit = Field("unit", widget=FormFieldWidget(forms.ChoiceField(choices=Price.Unit.choices)))
    usd_per_million = Field("price", widget=FormFieldWidget(UsdPerMillionField()))
    valid_from = Field("valid_from", widget=FormFieldWidget(forms.DateTimeField()))

    class Meta:
        model = Price
        fields = ("model", "fallback_order", "unit", "usd_per_million", "valid_from")
        import_id_fields = ("model", "unit", "valid_from")

    def filter_export(self, queryset: QuerySet[Price], **kwargs: Any) -> QuerySet[Price]:
        """Oldest first, as an import wants them."""
        return queryset.order_by("model__name", "model__fallback_order", "unit", "valid_from")

    def after_import(self, dataset: Any, result: Any, **kwargs: Any) -> None:
        transaction.on_commit(forget_routes)


class ModelFilter(DropdownFilter):
    title = "model"
    parameter_name = "model"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(str(model.pk), str(model)) for model in Model.objects.select_related("provider")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Price]) -> QuerySet[Price]:
        chosen = as_uuid(self.value() or "")
        return queryset.filter(model=chosen) if chosen else queryset


@admin.register(Price)
class PriceAdmin(TransferAdmin, RouteAdmin):
    purpose = (
        "What models take for tokens, characters, seconds and requests. A price is valid from its date until the next "
        "one of the same model and unit, and is never changed after it has begun: to change what a model takes, add "
        "a price. Calls keep what they cost."
    )
    resource_classes = (PriceResource,)
    form = PriceForm
    list_display = ("unit", "model_link", "shown_price", "valid_from", "state")
    list_select_related = ("model__provider",)
    list_filter = (ModelFilter, ("unit", ChoicesDropdownFilter))
    list_filter_submit = True
    search_fields = ("model__name", "model__upstream_name", "model__provider__name")
    ordering = ("model__name", "model__fallback_order", "unit", "-valid_from")
    autocomplete_fields = ("model",)
    readonly_fields = ("shown_price", "state", "row_id", "created_at")
    add_fieldsets = ((None, {"fields": ("model", ("unit", "price"), "valid_from")}),)
    fieldsets = (
        (None, {"fields": ("model", ("unit", "price"), ("valid_from", "shown_price"), "state")}),
        ("Record", {"fields": (("created_at", "row_id"),)}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Price]:
        prices: QuerySet[Price] = Price.objects.with_state(timezone.now())
        return prices.order_by(*self.get_ordering(request))

    def has_change_permission(self, request: HttpRequest, obj: Price | None = None) -> bool:
        allowed: bool = super().has_change_permission(request, obj)
        return allowed and (obj is None or not obj.has_begun())

    def has_delete_permission(self, request: HttpRequest, obj: Price | None = None) -> bool:
        allowed: bool = super().has_delete_permission(request, obj)
        return allowed and (obj is None or not obj.has_begun())

    @display(description="model", ordering="model__name")
    def model_link(self, price: Price) -> SafeString | str:
        return link_to(price.model)

    @display(description="price", ordering="price")
    def shown_price(self, price: Price) -> str:
        return price_text(price)

    @display(description="state")
    def state(self, price: Price) -> SafeString:
        return state_label(price)
