"""True usage for `n` > 1: llama.cpp counts the tokens of each choice apart, where OpenAI's protocol has one sum."""

from collections.abc import AsyncIterator, Iterable
from typing import Any

import orjson

EVENT_END = b"\n\n"
EVENT_START = b"data: "
DONE = b"data: [DONE]"

Answer = dict[str, Any]


def merge_answers(answers: list[Answer]) -> Answer:
    """One answer of several choices, from answers of one choice each."""
    choices = [{**answer["choices"][0], "index": index} for index, answer in enumerate(answers)]
    return {**answers[0], "choices": choices, "usage": add_usages(answer["usage"] for answer in answers)}


def add_usages(usages: Iterable[Answer]) -> Answer:
    """The prompt counts once, the completions all."""
    first, *others = usages
    completion = first["completion_tokens"] + sum(usage["completion_tokens"] for usage in others)
    return {**first, "completion_tokens": completion, "total_tokens": first["prompt_tokens"] + completion}


async def merge_usage_events(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Relay the events of a stream, with the usage of its choices added up in one event, the last before [DONE]."""
    usage_events: list[Answer] = []
    async for event in split_events(chunks):
        if event.startswith(DONE):
            if usage_events:
                total = add_usages(held["usage"] for held in usage_events)
                yield EVENT_START + orjson.dumps({**usage_events[-1], "usage": total}) + EVENT_END
            yield event
        elif b'"usage":' in event and (held := orjson.loads(event.removeprefix(EVENT_START))).get("usage"):
            usage_events.append(held)
        else:
            yield event


async def split_events(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The events of a stream, each with its blank line, however the bytes were cut on their way."""
    rest = b""
    async for chunk in chunks:
        rest += chunk
        while EVENT_END in rest:
            event, rest = rest.split(EVENT_END, 1)
            yield event + EVENT_END
    if rest:
        yield rest
