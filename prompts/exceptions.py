from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from accounts.exceptions import InvalidInput, NotFound
from inference.exceptions import UpstreamError


class TemplateError(InvalidInput):
    """What a template says, or what it is given, makes no sense. The message says where, by line and column."""

    code = "invalid_template"
    message = "The template is not valid."


class TemplateNotFound(NotFound):
    code = "template_not_found"
    message = "No such prompt template."


class VersionNotFound(NotFound):
    code = "version_not_found"
    message = "The template has no such version."


class LabelNotFound(NotFound):
    code = "label_not_found"
    message = "The template has no such label."


class PromptNotFound(NotFound):
    code = "prompt_not_found"
    message = "No such prompt."


@dataclass(frozen=True, slots=True)
class RowError:
    """What is wrong with a row of a file, counted from 1 without the line of names."""

    row: int
    message: str
    code: str


class ImportRefused(InvalidInput):
    """A file has broken rows, so nothing of it was imported. `errors` names them."""

    code = "import_refused"

    def __init__(self, rows: list[RowError], *, count: int) -> None:
        named = "1 row is broken" if count == 1 else f"{count:,} rows are broken"
        super().__init__(f"Nothing was imported: {named}. A partial import takes the good ones.")
        self.rows = rows

    @property
    def errors(self) -> tuple[dict[str, Any], ...]:
        return tuple(asdict(row) for row in self.rows)


class InvalidCursor(NotFound):
    code = "invalid_cursor"
    message = "The cursor is not of this list or search."


class EmbeddingUnavailable(UpstreamError):
    code = "embedding_unavailable"
    message = "A search by meaning needs the embedding model, which does not answer. Use mode=text, or try again."
