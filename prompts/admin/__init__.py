"""The operators' pages of this application; each module registers its own."""

from prompts.admin.classifiers import IntentClassifierAdmin
from prompts.admin.collections import CollectionAdmin
from prompts.admin.links import ShareLinkAdmin
from prompts.admin.patterns import IntentPatternAdmin
from prompts.admin.saved import SavedPromptAdmin
from prompts.admin.templates import PromptTemplateAdmin

__all__ = [
    "CollectionAdmin",
    "IntentClassifierAdmin",
    "IntentPatternAdmin",
    "PromptTemplateAdmin",
    "SavedPromptAdmin",
    "ShareLinkAdmin",
]
