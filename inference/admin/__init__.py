"""The operators' pages of this application; each module registers its own."""

from inference.admin.prices import PriceAdmin
from inference.admin.providers import ModelAdmin, ProviderAdmin
from inference.admin.requests import RequestAdmin

__all__ = ["ModelAdmin", "PriceAdmin", "ProviderAdmin", "RequestAdmin"]
