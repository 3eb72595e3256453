"""What is sent to models, and what is kept for the next time."""

from prompts.models.saved import SavedPrompt
from prompts.models.templates import PromptLabel, PromptTemplate, PromptUsage, PromptVersion

__all__ = ["PromptLabel", "PromptTemplate", "PromptUsage", "PromptVersion", "SavedPrompt"]
