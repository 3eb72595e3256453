"""The operators' pages of this application; each module registers its own."""

from prompts.admin.classifiers import IntentClassifierAdmin
from prompts.admin.collections import CollectionAdmin
from prompts.admin.effectiveness import TechniqueEffectivenessAdmin
from prompts.admin.history import PromptHistoryAdmin
from prompts.admin.links import ShareLinkAdmin
from prompts.admin.patterns import IntentPatternAdmin
from prompts.admin.saved import SavedPromptAdmin
from prompts.admin.techniques import TechniqueAdmin
from prompts.admin.templates import PromptTemplateAdmin

__all__ = [
    "CollectionAdmin",
    "IntentClassifierAdmin",
    "IntentPatternAdmin",
    "PromptHistoryAdmin",
    "PromptTemplateAdmin",
    "SavedPromptAdmin",
    "ShareLinkAdmin",
    "TechniqueAdmin",
    "TechniqueEffectivenessAdmin",
]
