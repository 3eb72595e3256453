"""What becomes of a user's saved prompts."""

from accounts.belongings import Belonging, Erase
from prompts.models import SavedPrompt

BELONGINGS = [
    Belonging(
        model=SavedPrompt,
        section="saved_prompts",
        fields=("id", "title", "content", "is_favourite", "created_at", "updated_at"),
        erase=Erase.DELETE,
    )
]
