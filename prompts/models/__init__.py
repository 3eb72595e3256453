"""What is sent to models, and what is kept for the next time."""

from prompts.models.intents import IntentClassifier, IntentPattern
from prompts.models.saved import SavedPrompt
from prompts.models.templates import PromptLabel, PromptTemplate, PromptUsage, PromptVersion

__all__ = [
    "IntentClassifier",
    "IntentPattern",
    "PromptLabel",
    "PromptTemplate",
    "PromptUsage",
    "PromptVersion",
    "SavedPrompt",
]
