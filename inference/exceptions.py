from __future__ import annotations

from accounts.exceptions import DomainError, InvalidInput, NotFound


class BodyTooLarge(InvalidInput):
    code = "request_too_large"
    message = "The request body is too large."


class InvalidJson(InvalidInput):
    code = "invalid_json"
    message = "The request body is not valid JSON."


class ModelNotFound(NotFound):
    code = "model_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(f"The model {name[:100]!r} does not exist or does not do this kind of work.", param="model")


class UpstreamError(DomainError):
    """The model server failed: it could not be reached, was too slow, broke off or answered nonsense."""

    code = "upstream_error"
    message = "The model server failed."


class UpstreamTimeout(UpstreamError):
    """The model server, or the whole call, took too long."""

    code = "upstream_timeout"
    message = "The model server did not answer in time."


class ServerStopping(UpstreamError):
    """Mainstay itself is going down, and the call was still open when its patience ended."""

    code = "server_stopping"
    message = "The server is being stopped. Try again."


class UpstreamRefused(UpstreamError):
    """The model server understood the call and refused it (400, 404, 413, 422 …): the caller must change it."""

    def __init__(self, status: int, message: str, *, code: str | None, param: str | None) -> None:
        super().__init__(message, code=code or "upstream_refused", param=param)
        self.status = status
