"""What the stub says: pure functions from a payload to its answer, as objects and as bytes of HTTP."""

from __future__ import annotations

import base64
import hashlib
import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson

WORDS = ["The ", "quick ", "brown ", "fox ", "jumps ", "over ", "a ", "lazy ", "dog ", "today. "] * 5
TEXT = "".join(WORDS)
INPUT_TOKENS = 20
OUTPUT_TOKENS = len(WORDS)
SECRET = "sk-upstream-0123456789abcdef"  # noqa: S105 - looks like one, and is none
CHUNKS_BEFORE_TROUBLE = 3
DIMENSIONS = 8
TOOL = {"name": "get_weather", "arguments": '{"city": "Vienna"}'}

STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
STREAM_END = b"0\r\n\r\n"

Payload = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it arrived; header names are in lower case, `at` is monotonic seconds."""

    path: str
    headers: dict[str, str]
    body: Payload
    at: float

    @property
    def model(self) -> str:
        return str(self.body.get("model", ""))


def whole_answer(payload: Payload) -> Payload:
    """A chat completion."""
    message: Payload = {"role": "assistant", "content": _text(payload)}
    finish = "stop"
    if payload["model"] == "tools":
        message = {"role": "assistant", "content": None, "tool_calls": [_tool_call(TOOL["arguments"])]}
        finish = "tool_calls"
    choices = [{"index": index, "message": message, "finish_reason": finish} for index in range(payload.get("n") or 1)]
    answer = _envelope(payload, "") | {"choices": choices}
    return answer if payload["model"] == "no-usage" else answer | {"usage": _usage(len(choices))}


def stream_chunks(payload: Payload) -> list[Payload]:
    """The chunks of a streamed one: its text, the end of each choice, and the usage if it is asked for."""
    deltas: list[Payload] = [{"content": part} for part in ([_text(payload)] if payload["model"] == "echo" else WORDS)]
    finish = "stop"
    if payload["model"] == "tools":
        pieces = [
            {"index": 0, "function": {"arguments": part}} for part in (TOOL["arguments"][:9], TOOL["arguments"][9:])
        ]
        deltas = [{"tool_calls": [call]} for call in ({"index": 0, **_tool_call("")}, *pieces)]
        finish = "tool_calls"
    deltas[0]["role"] = "assistant"
    count = payload.get("n") or 1
    chunks = [
        _envelope(payload, ".chunk") | {"choices": [{"index": index, "delta": delta, "finish_reason": reason}]}
        for delta, reason in [*((delta, None) for delta in deltas), ({}, finish)]
        for index in range(count)
    ]
    if (payload.get("stream_options") or {}).get("include_usage") and payload["model"] != "no-usage":
        chunks.append(_envelope(payload, ".chunk") | {"choices": [], "usage": _usage(count)})
    return chunks


def embeddings(payload: Payload) -> Payload:
    """Vectors that depend on nothing but their text, and that float32 holds exactly."""
    value = payload.get("input", "")
    many = isinstance(value, list) and value and not isinstance(value[0], int)
    as_text = payload.get("encoding_format") == "base64" and not payload["model"].startswith("float-only")
    vectors = [vector_of(item, payload.get("dimensions") or DIMENSIONS) for item in (value if many else [value])]
    data = [
        {"object": "embedding", "index": index, "embedding": _packed(vector) if as_text else vector}
        for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": INPUT_TOKENS, "total_tokens": INPUT_TOKENS}
    return {"object": "list", "model": payload["model"], "data": data, "usage": usage}


def vector_of(item: Any, dimensions: int = DIMENSIONS) -> list[float]:
    """The embedding of a text or a list of tokens, at most 32 numbers."""
    digest = hashlib.sha256(orjson.dumps(item)).digest()
    return [(byte - 128) / 128 for byte in digest[:dimensions]]


def _packed(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _text(payload: Payload) -> str:
    return orjson.dumps(payload).decode() if payload["model"] == "echo" else TEXT


def _tool_call(arguments: str) -> Payload:
    return {"id": "call_1", "type": "function", "function": {**TOOL, "arguments": arguments}}


def _envelope(payload: Payload, kind: str) -> Payload:
    model = payload["model"]
    return {"id": "chatcmpl-stub", "object": f"chat.completion{kind}", "created": 1_700_000_000, "model": model}


def _usage(choices: int) -> dict[str, int]:
    output = OUTPUT_TOKENS * choices
    return {"prompt_tokens": INPUT_TOKENS, "completion_tokens": output, "total_tokens": INPUT_TOKENS + output}


def error(message: str, code: str | None = None, param: str | None = None) -> bytes:
    kind = "invalid_request_error"
    return orjson.dumps({"error": {"message": message, "type": kind, "param": param, "code": code}})


def response(body: bytes, status: int = 200) -> bytes:
    head = f"HTTP/1.1 {status} Status\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def event(data: bytes) -> bytes:
    """A server-sent event as one chunk of HTTP."""
    return b"%x\r\ndata: %b\n\n\r\n" % (len(data) + 8, data)


def _stream(payload: Payload) -> bytes:
    events = [event(orjson.dumps(chunk)) for chunk in stream_chunks(payload)]
    return b"".join([STREAM_HEAD, *events, event(b"[DONE]"), STREAM_END])


@lru_cache(maxsize=64)
def _known(model: str, stream: bool, include_usage: bool) -> bytes:
    payload = {"model": model, "stream_options": {"include_usage": include_usage}}
    return _stream(payload) if stream else response(orjson.dumps(whole_answer(payload)))


def at_once(request: Received) -> bytes:
    """The whole response to a request that nothing is wrong with."""
    payload = request.body
    if request.path == "/v1/embeddings":
        return response(orjson.dumps(embeddings(payload)))
    if request.path != "/v1/chat/completions":
        return response(b"{}") if request.path == "/health" else response(error("There is no such address."), 404)
    stream = bool(payload.get("stream"))
    if "n" in payload or request.model == "echo":
        return _stream(payload) if stream else response(orjson.dumps(whole_answer(payload)))
    return _known(request.model, stream, bool((payload.get("stream_options") or {}).get("include_usage")))
