"""What is sent to models, and what is kept for the next time."""

from prompts.models.history import PromptHistory
from prompts.models.intents import IntentClassifier, IntentPattern
from prompts.models.saved import Collection, SavedPrompt, ShareLink
from prompts.models.techniques import Technique, TechniqueEffectiveness, TechniqueVersion
from prompts.models.templates import PromptLabel, PromptTemplate, PromptUsage, PromptVersion

__all__ = [
    "Collection",
    "IntentClassifier",
    "IntentPattern",
    "PromptHistory",
    "PromptLabel",
    "PromptTemplate",
    "PromptUsage",
    "PromptVersion",
    "SavedPrompt",
    "ShareLink",
    "Technique",
    "TechniqueEffectiveness",
    "TechniqueVersion",
]
