"""What tests of intents share: patterns with vectors of their own, and a classifier that has learned them."""

import numpy as np

from accounts.caller import Caller
from prompts.intents import classification, upkeep
from prompts.models import IntentPattern
from prompts.models.intents import DIMENSIONS

INTENTS = ("alarm", "music", "weather")


def vector(intent, number=0, spread=0.15):
    """A unit vector near the axis of an intent."""
    noise = np.random.default_rng([INTENTS.index(intent), number]).normal(size=DIMENSIONS) * spread / DIMENSIONS**0.5
    noise[INTENTS.index(intent)] += 1
    return (noise / np.linalg.norm(noise)).astype(np.float32)


def strange_vector():
    axis = np.zeros(DIMENSIONS, dtype=np.float32)
    axis[-1] = 1
    return axis


def make_patterns(each=8, model="vectors"):
    IntentPattern.objects.all().delete()
    IntentPattern.objects.bulk_create(
        IntentPattern(
            intent=intent, text=f"{intent} please {number}", embedding=vector(intent, number), embedding_model=model
        )
        for intent in INTENTS
        for number in range(each)
    )


def train():
    """As a worker does; `settings.EMBEDDING_MODEL` says whose vectors count."""
    classification.forget()
    upkeep.request_training(by=None)
    return upkeep.train_pending()


def caller_of(user):
    return Caller(user_id=user.pk, email=user.email)
