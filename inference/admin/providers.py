"""Where models are to be had. What is saved here is on the road at once in this process, within seconds in others."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import Count, Prefetch, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.admin import TabularInline
from unfold.contrib.filters.admin import BooleanRadioFilter, ChoicesDropdownFilter, RelatedDropdownFilter
from unfold.decorators import display

from accounts.admin.display import EMPTY, label, link_to_list
from inference.admin.forms import ProviderForm
from inference.admin.prices import ComingPriceInline, PriceHistoryInline, current_prices
from inference.admin.routes import RouteAdmin
from inference.models import Model, Price, Provider


class OfferedModelInline(TabularInline):
    """The names only: prices and sizes are on a model's own page."""

    model = Model
    extra = 0
    hide_title = True
    fields = ("name", "kind", "upstream_name", "fallback_order", "is_active")
    show_change_link = True
    verbose_name = "model"


@admin.register(Provider)
class ProviderAdmin(RouteAdmin):
    form = ProviderForm
    list_display = ("name", "base_url", "has_api_key", "shown_models", "state")
    list_filter = (("is_active", BooleanRadioFilter),)
    search_fields = ("name", "base_url")
    ordering = ("name",)
    inlines = (OfferedModelInline,)
    readonly_fields = ("has_api_key", "row_id", "created_at", "updated_at")
    add_fieldsets = (
        (None, {"fields": ("name", "base_url", "is_active")}),
        ("API key", {"fields": ("new_api_key",)}),
        ("Patience", {"fields": (("connect_timeout", "read_timeout"),)}),
    )
    fieldsets = (
        (None, {"fields": ("name", "base_url", "is_active")}),
        ("API key", {"fields": (("has_api_key", "remove_api_key"), "new_api_key")}),
        ("Patience", {"fields": (("connect_timeout", "read_timeout"),)}),
        ("Record", {"fields": (("created_at", "updated_at"), "row_id")}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Provider]:
        providers: QuerySet[Provider] = super().get_queryset(request)
        return providers.annotate(offered=Count("offered_models"))

    @display(description="key stored", boolean=True)
    def has_api_key(self, provider: Provider) -> bool:
        return bool(provider.api_key)

    @display(description="state", ordering="is_active")
    def state(self, provider: Provider) -> SafeString:
        return label("on", "success") if provider.is_active else label("off", "danger")

    @display(description="models", ordering="offered")
    def shown_models(self, provider: Provider) -> SafeString:
        return link_to_list(str(getattr(provider, "offered", 0)), "inference_model", provider__id__exact=provider.pk)


@admin.register(Model)
class ModelAdmin(RouteAdmin):
    """Rows of one name stand together, in the order in which they are tried."""

    list_display = (
        *("name", "place", "kind_code", "provider", "upstream_name"),
        *("shown_prices", "context", "state"),
    )
    list_select_related = ("provider",)
    list_filter = (
        ("kind", ChoicesDropdownFilter),
        ("provider", RelatedDropdownFilter),
        ("is_active", BooleanRadioFilter),
    )
    list_filter_submit = True
    search_fields = ("name", "upstream_name", "provider__name")
    ordering = ("name", "fallback_order")
    readonly_fields = ("row_id", "created_at", "updated_at")
    fieldsets = (
        (None, {"fields": (("name", "kind"), "is_active")}),
        ("Where it is", {"fields": (("provider", "upstream_name"), "fallback_order")}),
        ("Sizes", {"fields": (("context_window", "max_output_tokens"),)}),
        ("Record", {"fields": (("created_at", "updated_at"), "row_id")}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Model]:
        valid = Prefetch("prices", Price.objects.valid_at(timezone.now()), to_attr="prices_now")
        offered: QuerySet[Model] = super().get_queryset(request)
        return offered.prefetch_related(valid)

    def get_inlines(self, request: HttpRequest, obj: Model | None) -> tuple[type, ...]:
        """A model that is being made has no history."""
        return (ComingPriceInline, PriceHistoryInline) if obj else (ComingPriceInline,)

    @display(description="tried")
    def place(self, model: Model) -> str:
        """The order within a name, in words: what counts is who is asked first."""
        return "first" if model.fallback_order == 0 else f"then ({model.fallback_order})"

    @display(description="kind", ordering="kind")
    def kind_code(self, model: Model) -> str:
        return model.kind

    @display(description="prices now (tokens: a million)")
    def shown_prices(self, model: Model) -> str:
        return current_prices(getattr(model, "prices_now", []))

    @display(description="context", ordering="context_window", empty_value=EMPTY)
    def context(self, model: Model) -> str | None:
        return f"{model.context_window:,}" if model.context_window else None

    @display(description="state", ordering="is_active")
    def state(self, model: Model) -> SafeString:
        if not model.provider.is_active:
            return label("provider off", "warning")
        return label("on", "success") if model.is_active else label("off", "danger")
