"""What a caller wants of `POST prompts/enhance`: the body, looked at by hand, for this has to be quick."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from accounts.exceptions import InvalidInput
from prompts.enhance.choosing import DEFAULT_MOST, MOST
from prompts.intents.classification import MOST_CHARACTERS as MOST_CLASSIFIED

MOST_CHARACTERS = 50_000
FIELDS = frozenset(
    ["prompt", "text", "techniques", "parameters", "intent", "max_techniques", "seed", "use_llm", "model", "stream"]
)
# JavaScript reads no larger number exactly.
MOST_SEED = 2**53 - 1
INTENT = re.compile("[a-z][a-z0-9_]{0,59}")

Parameters = dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Wish:
    """`techniques` is empty if they are to be chosen; `parameters` are by technique; `intent` is empty if not known."""

    prompt: str
    techniques: tuple[str, ...] = ()
    parameters: Parameters | None = None
    intent: str = ""
    most: int = DEFAULT_MOST
    seed: int | None = None
    use_llm: bool = False
    model: str = ""
    stream: bool = False

    @property
    def beginning(self) -> str:
        """As much of the prompt as is classified."""
        return self.prompt.strip()[:MOST_CLASSIFIED].strip()


def wish_of(payload: dict[str, Any]) -> Wish:
    """Raises `InvalidInput`, which names the field."""
    for name in payload.keys() - FIELDS:
        raise InvalidInput(f"There is no field {name[:60]!r}.", code="unknown_field", param=name[:60])
    wish = Wish(
        prompt=_prompt(payload),
        techniques=_techniques(payload.get("techniques")),
        parameters=_parameters(payload.get("parameters")),
        intent=_intent(payload.get("intent")),
        most=_whole(payload, "max_techniques", 1, MOST) or DEFAULT_MOST,
        seed=_whole(payload, "seed", 0, MOST_SEED),
        use_llm=_flag(payload, "use_llm"),
        model=_text(payload, "model"),
        stream=_flag(payload, "stream"),
    )
    if wish.stream and not wish.use_llm:
        raise InvalidInput("Only what a model writes is streamed: send `use_llm`, too.", param="stream")
    return wish


def _prompt(payload: dict[str, Any]) -> str:
    """`prompt`, or `text` as `prompts/classify` calls it."""
    name = "text" if "text" in payload else "prompt"
    if "text" in payload and "prompt" in payload:
        raise InvalidInput("Send `prompt` or `text`, not both.", param="text", code="prompt_and_text")
    prompt = payload.get(name)
    if not isinstance(prompt, str):
        raise InvalidInput(f"`{name}` must be a text.", param=name, code="invalid_type")
    if len(prompt) > MOST_CHARACTERS:
        raise InvalidInput(f"`{name}` may have at most {MOST_CHARACTERS:,} characters.", param=name, code="too_long")
    if not prompt.strip():
        raise InvalidInput(f"`{name}` is empty.", param=name, code="blank")
    return prompt


def _techniques(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(slug, str) for slug in value):
        raise InvalidInput("`techniques` must be a list of names.", param="techniques", code="invalid_type")
    if len(value) > MOST:
        raise InvalidInput(f"Name at most {MOST} techniques.", param="techniques", code="too_many")
    return tuple(dict.fromkeys(value))


def _parameters(value: Any) -> Parameters:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(given, dict) for given in value.values()):
        raise InvalidInput(
            '`parameters` must be an object by technique, such as {"role": {"role": "a chemist"}}.',
            param="parameters",
            code="invalid_type",
        )
    if _characters(value) > MOST_CHARACTERS:
        raise InvalidInput(
            f"`parameters` may have at most {MOST_CHARACTERS:,} characters in all.", param="parameters", code="too_long"
        )
    return value


def _characters(value: Any) -> int:
    """Of all names and values together."""
    if isinstance(value, dict):
        return sum(len(name) + _characters(part) for name, part in value.items())
    if isinstance(value, list):
        return sum(map(_characters, value))
    return len(str(value))


def _intent(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or not INTENT.fullmatch(value):
        raise InvalidInput("`intent` must be the name of an intent.", param="intent", code="unknown_intent")
    return value


def _whole(payload: dict[str, Any], name: str, least: int, most: int) -> int | None:
    value = payload.get(name)
    if value is not None and (type(value) is not int or not least <= value <= most):
        raise InvalidInput(f"`{name}` must be a whole number from {least} to {most}.", param=name, code="invalid_type")
    return value


def _flag(payload: dict[str, Any], name: str) -> bool:
    value = payload.get(name)
    if value is not None and not isinstance(value, bool):
        raise InvalidInput(f"`{name}` must be true or false.", param=name, code="invalid_type")
    return bool(value)


def _text(payload: dict[str, Any], name: str) -> str:
    value = payload.get(name)
    if value is not None and not isinstance(value, str):
        raise InvalidInput(f"`{name}` must be a text.", param=name, code="invalid_type")
    return value or ""
