import structlog
from celery import shared_task

from accounts.exceptions import DomainError
from prompts.intents import upkeep
from prompts.search import vectors

log = structlog.get_logger(__name__)


@shared_task(name="prompts.tasks.tend_intents")
def tend_intents() -> None:
    """Embed patterns that have no vector yet, and train a classifier when they have changed."""
    try:
        upkeep.tend()
    except DomainError as refusal:
        # The next beat tries again; until then texts are classified as well as can be.
        log.warning("intents_not_embedded", reason=str(refusal))


@shared_task(name="prompts.tasks.tend_search")
def tend_search() -> None:
    """Embed what is new or was changed, and drop the vectors of models that were replaced."""
    try:
        vectors.tend()
    except DomainError as refusal:
        # The next beat tries again; until then what is new is found by its words.
        log.warning("documents_not_embedded", reason=str(refusal))
