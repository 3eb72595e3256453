"""A search, from what was asked to the page that is answered."""

from __future__ import annotations

import html
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from prompts.exceptions import EmbeddingUnavailable
from prompts.intents.arithmetic import Vector
from prompts.models import EmbeddingModel
from prompts.search import cursors, questions
from prompts.search.cursors import Cursor
from prompts.search.finding import Asked, Meaning, find
from prompts.search.modes import Mode
from prompts.search.ranking import GREATER, LESS, MARK, UNMARK, Place

NO_EMBEDDING = "embedding_unavailable"
NO_QUOTA = "quota_exceeded"
NOT_EMBEDDED = "not_embedded"

Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Search:
    """What is asked, by the vectors of which model, and how the pages before were found, if there were any."""

    asked: Asked
    model: EmbeddingModel | None
    before: Cursor | None = None

    @property
    def is_draft(self) -> bool:
        """Of a draft, what is like it is wanted, however that is found out, and no more pages of it."""
        return self.asked.any_word

    @property
    def takes_words(self) -> bool:
        """Whether words can stand in for the meaning, or nothing but meaning was asked for."""
        return self.is_draft or self.asked.mode != Mode.SEMANTIC

    def at_once(self) -> Result | None:
        """The page, if it takes no call: by words, or by a vector that is known."""
        if self.before is not None and self.before.mode == Mode.TEXT:
            return self._page(Mode.TEXT, None, self.before.reason)
        if self.asked.mode == Mode.TEXT:
            return self._page(Mode.TEXT, None, None)
        if self.model is None:
            return self.by_words(NOT_EMBEDDED)
        vector = questions.known_vector(self.asked.user_id, self.asked.text, self.model)
        return None if vector is None else self.by_meaning(vector)

    def by_meaning(self, vector: Vector) -> Result:
        return self._page(self.asked.mode, vector, None)

    def by_words(self, reason: str) -> Result:
        """What can be found without a vector. `EmbeddingUnavailable` if nothing but meaning was asked for."""
        if not self.takes_words:
            raise EmbeddingUnavailable
        return self._page(Mode.TEXT, None, reason)

    def _page(self, mode: Mode, vector: Vector | None, reason: str | None) -> Result:
        meaning = Meaning(vector, self.model) if vector is not None and self.model else None
        rows = find(replace(self.asked, mode=mode), meaning)
        page = rows[: self.asked.limit]
        results = [_shown(row, self.asked.user_id) for row in page]
        found = {"mode_used": str(mode), "reason": reason, "results": results}
        if self.is_draft:
            return found
        following = None
        if len(rows) > len(page):
            place = Place(page[-1]["score"], page[-1]["id"])
            cursor = Cursor(place, mode, reason, self.model.pk if self.model else None)
            following = cursors.write(cursor, of=fingerprint(self.asked))
        return {"next": following, "previous": None} | found


def begin(asked: Asked, cursor: str = "") -> Search:
    """A search, or its next page, which is found as those before were. Raises `InvalidCursor`."""
    before = cursors.read(cursor, of=fingerprint(asked)) if cursor else None
    models = {model.pk: model for model in EmbeddingModel.objects.all()}
    model = models.get(before.model_id) if before and before.model_id else None
    model = model or next((model for model in models.values() if model.is_active), None)
    return Search(replace(asked, after=before.place if before else None), model, before)


def fingerprint(asked: Asked) -> str:
    """What a cursor is for: all but the place and the size of the page."""
    return cursors.fingerprint(asked.user_id, asked.text, asked.mode, asked.filters)


def _shown(row: dict[str, Any], user_id: UUID) -> Result:
    similarity = row["similarity"]
    return {
        "id": str(row["id"]),
        "kind": row["kind"],
        "title": row["title"],
        "highlight": {"title": marked(row["marked_title"]), "text": marked(row["marked_body"])},
        "tags": row["tags"],
        "is_own": row["owner_id"] == user_id,
        "is_shared": row["is_shared"],
        "score": round(row["score"], 6),
        "similarity": None if similarity is None else round(similarity, 4),
        "created_at": row["created_at"].isoformat().replace("+00:00", "Z"),
        "updated_at": row["updated_at"].isoformat().replace("+00:00", "Z"),
    }


def marked(text: str) -> str:
    """As HTML: what was found stands in `<mark>`, and everything else is escaped."""
    plain = html.escape(text.replace(LESS, "<").replace(GREATER, ">"))
    return plain.replace(MARK, "<mark>").replace(UNMARK, "</mark>")
