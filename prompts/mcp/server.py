"""Answers to MCP messages. Each is answered by itself: nothing is remembered of a client between two of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.conf import settings

from accounts.exceptions import InvalidInput, NotFound
from prompts.mcp import library
from prompts.mcp.protocol import (
    BATCHING,
    HANDSHAKE_VERSIONS,
    INVALID_PARAMS,
    INVALID_REQUEST,
    LATEST_HANDSHAKE,
    METHOD_NOT_FOUND,
    SERVER_KEY,
    STATELESS_VERSIONS,
    VERSIONS,
    Headers,
    Message,
    ProtocolError,
    identity_of,
    read_message,
    version_of,
)

MOST_BATCH = 20
CAPABILITIES: dict[str, Any] = {"prompts": {}, "completions": {}}
INSTRUCTIONS = "Prompt templates of this installation, and the caller's saved prompts."

Result = dict[str, Any]
Params = dict[str, Any]
Method = Callable[[Params, UUID], Result]


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP status and, unless there is nothing to say, a JSON value."""

    status: int
    body: Any = None


def answer(value: Any, *, headers: Headers, user_id: UUID) -> Reply:
    """The reply to a body that was read as JSON. All refusals are replies, too."""
    if not isinstance(value, list):
        return _answer_one(value, headers, user_id)
    try:
        _check_batch(value, headers)
    except ProtocolError as error:
        return Reply(400, error.body(None))
    replies = [_answer_one(message, headers, user_id) for message in value]
    bodies = [reply.body for reply in replies if reply.body is not None]
    return Reply(200, bodies) if bodies else Reply(202)


def _check_batch(values: list[Any], headers: Headers) -> None:
    if headers.version not in (None, BATCHING):
        raise ProtocolError(INVALID_REQUEST, "The body must be one message: there are no batches in this version.")
    if not 0 < len(values) <= MOST_BATCH:
        raise ProtocolError(INVALID_REQUEST, f"A batch has 1 to {MOST_BATCH} messages.")
    if any(isinstance(value, dict) and value.get("method") == "initialize" for value in values):
        raise ProtocolError(INVALID_REQUEST, "initialize is sent by itself.")


def _answer_one(value: Any, headers: Headers, user_id: UUID) -> Reply:
    identity = identity_of(value)
    try:
        message = read_message(value)
        version = version_of(message, headers)
    except ProtocolError as error:
        return Reply(400, error.body(identity))
    if message.id is None:
        return Reply(202)
    is_stateless = version in STATELESS_VERSIONS
    try:
        result = _result(message, STATELESS if is_stateless else HANDSHAKE, user_id)
    except ProtocolError as error:
        return Reply(_status(error) if is_stateless else 200, error.body(identity))
    if is_stateless:
        result = _signed(message.method, result)
    return Reply(200, {"jsonrpc": "2.0", "id": identity, "result": result})


def _result(message: Message, methods: dict[str, Method], user_id: UUID) -> Result:
    method = methods.get(message.method)
    if method is None:
        raise ProtocolError(METHOD_NOT_FOUND, f"There is no method {message.method[:100]}.")
    try:
        return method(message.params, user_id)
    except (InvalidInput, NotFound) as error:
        # Variables are arguments here.
        param = error.param and error.param.replace("variables.", "arguments.", 1)
        raise ProtocolError(INVALID_PARAMS, str(error), {"code": error.code, "param": param}) from error


def _status(error: ProtocolError) -> int:
    return 404 if error.number == METHOD_NOT_FOUND else 400


def _signed(method: str, result: Result) -> Result:
    """What each result of the stateless versions says besides."""
    meta = {SERVER_KEY: _server(), **result.get("_meta", {})}
    return {"resultType": "complete", **CACHING.get(method, {}), **result, "_meta": meta}


def _server() -> dict[str, Any]:
    return {"name": "mainstay", "title": "Mainstay", "version": settings.SPECTACULAR_SETTINGS["VERSION"]}


# Methods --------------------------------------------------------------------------------------------------------------


def _initialize(params: Params, _user_id: UUID) -> Result:
    wanted = _text(params, "protocolVersion")
    return {
        "protocolVersion": wanted if wanted in HANDSHAKE_VERSIONS else LATEST_HANDSHAKE,
        "capabilities": CAPABILITIES,
        "serverInfo": _server(),
        "instructions": INSTRUCTIONS,
    }


def _discover(_params: Params, _user_id: UUID) -> Result:
    return {"supportedVersions": list(VERSIONS), "capabilities": CAPABILITIES, "instructions": INSTRUCTIONS}


def _ping(_params: Params, _user_id: UUID) -> Result:
    return {}


def _list_prompts(params: Params, user_id: UUID) -> Result:
    cursor = "" if params.get("cursor") is None else _text(params, "cursor")
    page = library.list_prompts(user_id=user_id, cursor=cursor)
    result: Result = {"prompts": page.prompts}
    return result if page.next_cursor is None else {**result, "nextCursor": page.next_cursor}


def _get_prompt(params: Params, user_id: UUID) -> Result:
    arguments = _object(params, "arguments") if params.get("arguments") is not None else {}
    texts = {name: _text(arguments, name, inside="arguments.") for name in arguments}
    return library.get_prompt(user_id=user_id, name=_text(params, "name"), arguments=texts)


def _complete(params: Params, user_id: UUID) -> Result:
    ref, argument = _object(params, "ref"), _object(params, "argument")
    if ref.get("type") != "ref/prompt":
        raise InvalidInput("Only arguments of prompts are completed.", param="ref.type")
    values = library.complete(
        user_id=user_id,
        name=_text(ref, "name", inside="ref."),
        argument=_text(argument, "name", inside="argument."),
        begun=_text(argument, "value", inside="argument."),
    )
    shown = values[: library.MOST_VALUES]
    return {"completion": {"values": shown, "total": len(values), "hasMore": len(shown) < len(values)}}


def _text(params: Params, name: str, *, inside: str = "") -> str:
    value = params.get(name)
    if not isinstance(value, str):
        raise InvalidInput(f"{inside}{name} must be a text."[:200], code="invalid_type", param=f"{inside}{name}"[:100])
    return value


def _object(params: Params, name: str) -> Params:
    value = params.get(name)
    if not isinstance(value, dict):
        raise InvalidInput(f"{name} must be an object.", code="invalid_type", param=name)
    return value


_LIBRARY: dict[str, Method] = {
    "prompts/list": _list_prompts,
    "prompts/get": _get_prompt,
    "completion/complete": _complete,
}
HANDSHAKE: dict[str, Method] = {"initialize": _initialize, "ping": _ping, **_LIBRARY}
STATELESS: dict[str, Method] = {"server/discover": _discover, **_LIBRARY}
# For how long a client may keep a result. A moved label is seen by the next request.
CACHING: dict[str, dict[str, Any]] = {
    "server/discover": {"ttlMs": 3_600_000, "cacheScope": "private"},
    "prompts/list": {"ttlMs": 0, "cacheScope": "private"},
}
