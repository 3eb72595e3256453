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


class InvalidCursor(NotFound):
    code = "invalid_cursor"
    message = "The cursor is not of this search."


class EmbeddingUnavailable(UpstreamError):
    code = "embedding_unavailable"
    message = "A search by meaning needs the embedding model, which does not answer. Use mode=text, or try again."
