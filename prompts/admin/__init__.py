"""The operators' pages of this application; each module registers its own."""

from prompts.admin.saved import SavedPromptAdmin

__all__ = ["SavedPromptAdmin"]
