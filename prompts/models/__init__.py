"""What is sent to models, and what is kept for the next time."""

from prompts.models.history import PromptHistory
from prompts.models.intents import IntentClassifier, IntentPattern
from prompts.models.saved import Collection, SavedPrompt, ShareLink
from prompts.models.search import DocumentEmbedding, EmbeddingModel, SearchDocument
from prompts.models.techniques import Technique, TechniqueEffectiveness, TechniqueVersion
from prompts.models.templates import PromptLabel, PromptTemplate, PromptUsage, PromptVersion

__all__ = [
    "Collection",
    "DocumentEmbedding",
    "EmbeddingModel",
    "IntentClassifier",
    "IntentPattern",
    "PromptHistory",
    "PromptLabel",
    "PromptTemplate",
    "PromptUsage",
    "PromptVersion",
    "SavedPrompt",
    "SearchDocument",
    "ShareLink",
    "Technique",
    "TechniqueEffectiveness",
    "TechniqueVersion",
]
