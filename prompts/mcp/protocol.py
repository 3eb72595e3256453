"""What the Model Context Protocol says about a message, whatever the message asks for.

https://modelcontextprotocol.io/specification. Up to 2025-11-25 a client begins with `initialize`, and then names the
agreed version in a header. From 2026-07-28 on each request stands alone: it carries its version in `params._meta`, and
headers repeat what the body says. We keep no sessions in either, so any process can answer any request.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Any

HANDSHAKE_VERSIONS = ("2025-03-26", "2025-06-18", "2025-11-25")
STATELESS_VERSIONS = ("2026-07-28",)
VERSIONS = (*HANDSHAKE_VERSIONS, *STATELESS_VERSIONS)
LATEST_HANDSHAKE = HANDSHAKE_VERSIONS[-1]
# What a request without the header speaks, and the only version with batches.
BATCHING = "2025-03-26"

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
HEADER_MISMATCH = -32020
UNSUPPORTED_VERSION = -32022

VERSION_KEY = "io.modelcontextprotocol/protocolVersion"
CAPABILITIES_KEY = "io.modelcontextprotocol/clientCapabilities"
SERVER_KEY = "io.modelcontextprotocol/serverInfo"

# Methods whose name is repeated in the header Mcp-Name.
NAMED = {"prompts/get"}
_ENCODED = ("=?base64?", "?=")


class ProtocolError(Exception):
    """A refusal in JSON-RPC's own terms: `number` is one of its codes."""

    def __init__(self, number: int, message: str, data: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.number = number
        self.data = data

    def body(self, identity: str | int | None) -> dict[str, Any]:
        error: dict[str, Any] = {"code": self.number, "message": str(self)}
        if self.data is not None:
            error["data"] = self.data
        return {"jsonrpc": "2.0", "id": identity, "error": error}


@dataclass(frozen=True, slots=True)
class Headers:
    """MCP-Protocol-Version, Mcp-Method and Mcp-Name, as they were sent."""

    version: str | None = None
    method: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """A request, or without an `id` a notification."""

    id: str | int | None
    method: str
    params: dict[str, Any]

    @property
    def meta(self) -> dict[str, Any]:
        meta = self.params.get("_meta")
        return meta if isinstance(meta, dict) else {}


def identity_of(value: Any) -> str | int | None:
    """The id that an answer to `value` carries, None if it has none that could be used."""
    found = value.get("id") if isinstance(value, dict) else None
    return found if isinstance(found, str | int) and not isinstance(found, bool) else None


def read_message(value: Any) -> Message:
    """Raises `ProtocolError` unless `value` is a request or a notification. Answers are none: nothing was asked."""
    if not isinstance(value, dict):
        raise ProtocolError(INVALID_REQUEST, "The body must be one JSON-RPC request or notification.")
    if value.get("jsonrpc") != "2.0":
        raise ProtocolError(INVALID_REQUEST, '`jsonrpc` must be "2.0".')
    method, params = value.get("method"), value.get("params", {})
    if not isinstance(method, str):
        raise ProtocolError(INVALID_REQUEST, "`method` must be a text.")
    if not isinstance(params, dict):
        raise ProtocolError(INVALID_REQUEST, "`params` must be an object.")
    identity = identity_of(value)
    if "id" in value and identity is None:
        raise ProtocolError(INVALID_REQUEST, "`id` must be a text or a whole number.")
    return Message(identity, method, params)


def version_of(message: Message, headers: Headers) -> str:
    """The version that a message speaks. Raises `ProtocolError` if we do not, or if it contradicts itself."""
    stated = message.meta.get(VERSION_KEY)
    if message.method == "initialize" and stated is None:
        return LATEST_HANDSHAKE
    if message.id is None or (stated is None and headers.version not in STATELESS_VERSIONS):
        return _known(headers.version or BATCHING)
    _check_meta(message)
    if headers.version is None or stated != headers.version:
        raise _mismatch("MCP-Protocol-Version", headers.version, str(stated))
    version = _known(headers.version)
    if version in STATELESS_VERSIONS:
        _check_headers(message, headers)
    return version


def _known(version: str) -> str:
    if version not in VERSIONS:
        data = {"supported": list(VERSIONS), "requested": version}
        raise ProtocolError(
            UNSUPPORTED_VERSION, f"This version of the protocol is not spoken here: {version[:40]}.", data
        )
    return version


def _check_meta(message: Message) -> None:
    missing = [key for key in (VERSION_KEY, CAPABILITIES_KEY) if key not in message.meta]
    if missing:
        raise ProtocolError(INVALID_PARAMS, f"`params._meta` must have {' and '.join(missing)}.")
    if not isinstance(message.meta[CAPABILITIES_KEY], dict):
        raise ProtocolError(INVALID_PARAMS, f"`params._meta` must have an object as {CAPABILITIES_KEY}.")


def _check_headers(message: Message, headers: Headers) -> None:
    """Proxies go by the headers, we by the body: both have to say the same."""
    if headers.method != message.method:
        raise _mismatch("Mcp-Method", headers.method, message.method)
    name = message.params.get("name")
    if message.method in NAMED and isinstance(name, str) and decoded(headers.name) != name:
        raise _mismatch("Mcp-Name", headers.name, name)


def _mismatch(header: str, said: str | None, wanted: str) -> ProtocolError:
    return ProtocolError(
        HEADER_MISMATCH, f"The header {header} says {str(said)[:100]!r}, but the body says {wanted[:100]!r}."
    )


def decoded(value: str | None) -> str | None:
    """What a header stands for: itself, or the UTF-8 text in `=?base64?…?=`; None if that is broken."""
    begin, end = _ENCODED
    if value is None or not (value.startswith(begin) and value.endswith(end)):
        return value
    try:
        return base64.b64decode(value[len(begin) : -len(end)], validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
