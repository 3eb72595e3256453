"""What is sent to models, and what is kept for the next time."""

from prompts.models.saved import SavedPrompt

__all__ = ["SavedPrompt"]
