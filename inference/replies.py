"""What a model answers, folded while it passes: text, tool calls and usage, and the bytes for the caller."""

from __future__ import annotations

import base64
import struct
from typing import Any, NamedTuple

import orjson

from inference.exceptions import UpstreamError
from inference.payloads import estimate_tokens

DONE = b"data: [DONE]\n\n"

STREAM_HEADERS = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class TokenUsage(NamedTuple):
    """Tokens of a call; the cached ones are among the input's."""

    input_tokens: int
    output_tokens: int
    cached_input_tokens: int = 0


def reported_usage(value: Any) -> TokenUsage | None:
    """What an OpenAI `usage` object says; None if it makes no sense."""
    if not isinstance(value, dict):
        return None
    tokens = value.get("prompt_tokens"), value.get("completion_tokens", 0)
    if not all(_is_count(count) for count in tokens):
        return None
    details = value.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    return TokenUsage(*tokens, min(cached, tokens[0]) if _is_count(cached) else 0)  # type: ignore[arg-type, type-var]


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31


class StreamedReply:
    """A streamed chat completion: `take` each batch of events, `finish` at the end."""

    def __init__(self, *, model: str, include_usage: bool) -> None:
        self.model = model
        self.include_usage = include_usage
        self.usage: TokenUsage | None = None
        self.done = False
        self.choices: dict[int, dict[str, Any]] = {}
        self.delivered = 0

    def take(self, events: list[dict[str, Any] | None]) -> bytes:
        """The bytes for the caller of one batch; the usage that only we asked for is left out."""
        out = bytearray()
        for event in events:
            if event is None:
                self.done = True
                break
            self.usage = reported_usage(event.get("usage")) or self.usage
            if not self.include_usage and "usage" in event:
                del event["usage"]
                if not event.get("choices"):
                    continue
            if "model" in event:
                event["model"] = self.model
            self._fold(event.get("choices"))
            out += b"data: " + orjson.dumps(event) + b"\n\n"
        return bytes(out)

    def finish(self) -> None:
        """`UpstreamError` if the stream ended before it was complete."""
        complete = self.choices and all(choice["finish_reason"] for choice in self.choices.values())
        if not self.done and not complete:
            raise UpstreamError("The model server broke the stream off.")

    @property
    def text(self) -> str:
        """What the first choice says."""
        return "".join(self.choices[0]["parts"]) if 0 in self.choices else ""

    @property
    def output_estimate(self) -> int:
        """About how many tokens have been delivered."""
        return sum(
            estimate_tokens("".join(choice["parts"])) + estimate_tokens("".join(choice["arguments"]))
            for choice in self.choices.values()
        )

    def summary(self) -> dict[str, Any]:
        """The answer as the request history keeps it: as if it had not been streamed."""
        return {
            "choices": [
                {
                    "index": index,
                    "message": {"role": "assistant", "content": "".join(choice["parts"])}
                    | ({"tool_calls": "".join(choice["arguments"])} if choice["arguments"] else {}),
                    "finish_reason": choice["finish_reason"],
                }
                for index, choice in sorted(self.choices.items())
            ]
        }

    def _fold(self, choices: Any) -> None:
        for choice in choices if isinstance(choices, list) else ():
            if not isinstance(choice, dict):
                continue
            index = choice.get("index")
            into = self.choices.setdefault(
                index if isinstance(index, int) else 0, {"parts": [], "arguments": [], "finish_reason": None}
            )
            into["finish_reason"] = choice.get("finish_reason") or into["finish_reason"]
            delta = choice.get("delta")
            if isinstance(delta, dict):
                for name in ("content", "refusal", "reasoning_content", "reasoning"):
                    if isinstance(delta.get(name), str):
                        into["parts"].append(delta[name])
                if delta.get("tool_calls"):
                    into["arguments"].append(orjson.dumps(delta["tool_calls"]).decode())


def text_of(completion: dict[str, Any]) -> str:
    """What the first choice of a whole (not streamed) chat completion says."""
    try:
        content = completion["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError):
        return ""
    return content if isinstance(content, str) else ""


def with_encoding(answer: dict[str, Any], encoding: str) -> dict[str, Any]:
    """An embeddings answer in the encoding that was asked for, whatever the provider speaks.

    `base64` is the little-endian float32 vector, as OpenAI sends it.
    """
    rows = answer.get("data")
    if not isinstance(rows, list) or not all(isinstance(row, dict) and "embedding" in row for row in rows):
        raise UpstreamError("The model server answered with something that is not embeddings.")
    try:
        for row in rows:
            row["embedding"] = _encoded(row["embedding"], encoding)
    except (struct.error, ValueError, TypeError):
        raise UpstreamError("The model server answered with a vector that makes no sense.") from None
    return answer


def _encoded(vector: Any, encoding: str) -> Any:
    if encoding == "base64" and isinstance(vector, list):
        return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
    if encoding == "float" and isinstance(vector, str):
        raw = base64.b64decode(vector, validate=True)
        return list(struct.unpack(f"<{len(raw) // 4}f", raw))
    return vector
