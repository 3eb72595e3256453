"""What is sent to models, and what is kept for the next time."""

from prompts.models.intents import IntentClassifier, IntentPattern
from prompts.models.saved import SavedPrompt

__all__ = ["IntentClassifier", "IntentPattern", "SavedPrompt"]
