"""What can go wrong, in plain exceptions that know nothing of HTTP. `config/errors.py` maps them to answers."""

from __future__ import annotations


class DomainError(Exception):
    """A refusal that a caller can understand.

    `code` is a stable machine code, `param` the field at fault, `retryable` whether the same call may succeed soon.
    `text` is what a person is to be told instead of the message, where somebody has chosen words for it.
    """

    code = "error"
    message = "The request could not be carried out."
    retryable = False
    text = ""

    def __init__(self, message: str | None = None, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message or self.message)
        self.code = code or self.code
        self.param = param


class InvalidInput(DomainError):
    code = "invalid_value"
    message = "The request is not valid."


class NotAuthenticated(DomainError):
    code = "invalid_api_key"
    message = "The API key or token is missing, wrong, expired or revoked."


class NotAllowed(DomainError):
    code = "permission_denied"
    message = "This credential may not do that."


class NotFound(DomainError):
    code = "not_found"
    message = "There is no such thing, or it is not yours."


class Conflict(DomainError):
    code = "conflict"
    message = "The thing is not in a state that allows this."


class TooManyRequests(DomainError):
    """The same request is let in after `retry_after` seconds, if nobody else uses up what is free then."""

    code = "rate_limit_exceeded"
    message = "Too many requests."
    retryable = True

    def __init__(self, message: str = "", *, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class TooManyAttempts(DomainError):
    """Guessing was stopped for now: the same is refused for `retry_after` seconds, even if it is right."""

    code = "too_many_attempts"
    message = "There were too many wrong attempts."
    retryable = True

    def __init__(self, *, retry_after: int) -> None:
        super().__init__(f"{self.message} Try again in {retry_after} seconds.")
        self.retry_after = retry_after
