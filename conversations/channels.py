"""How conversations are led on each channel, at hand in every process without SQL as long as nothing changes.

A process keeps what it has read together with the generation, a random text in Redis that each change replaces. Each
turn asks Redis for the generation; a copy of another one is read anew, so a change counts at once everywhere.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast
from uuid import UUID

import redis
import structlog
from django.db import transaction
from django.utils import timezone

from accounts import audit
from accounts.caller import Caller
from accounts.exceptions import Conflict
from accounts.snapshots import redis_client
from conversations.exceptions import ChannelOff
from conversations.models import ChannelConfig
from conversations.models.channels import DEFAULT_CONTEXT_MESSAGES
from prompts.models.templates import DEFAULT_LABEL
from quotas import rates
from quotas.rates import Subject
from quotas.windows import CHANNEL, Rate, rates_by_section

log = structlog.get_logger(__name__)

GENERATION = "channels:generation"
GENERATION_SECONDS = 24 * 3600
# A change that Redis could not be told of is believed at the latest then; and for so long, while Redis is away.
MOST_SECONDS = 60.0
SECONDS_WITHOUT_REDIS = 0.5
SECONDS_BETWEEN_TRIES = 0.5


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel as turns need it: without the credentials of its platform."""

    name: str
    is_active: bool = True
    default_model: str = ""
    system_prompt: str = ""
    template_owner_id: UUID | None = None
    template_name: str = ""
    prompt_label: str = DEFAULT_LABEL
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    context_messages: int = DEFAULT_CONTEXT_MESSAGES
    context_tokens: int | None = None
    rates: tuple[Rate, ...] = ()

    @classmethod
    def of(cls, row: ChannelConfig) -> Channel:
        template = row.prompt_template
        return cls(
            name=row.name,
            is_active=row.is_active,
            default_model=row.default_model,
            system_prompt=row.system_prompt,
            template_owner_id=template.user_id if template else None,
            template_name=template.name if template else "",
            prompt_label=row.prompt_label,
            temperature=row.temperature,
            top_p=row.top_p,
            max_tokens=row.max_tokens,
            context_messages=row.context_messages,
            context_tokens=row.context_tokens,
            rates=rates_by_section({CHANNEL: row.rate_limits})[CHANNEL],
        )

    @property
    def subject(self) -> Subject:
        """All people on the channel together; a plan's limit on its subscribers' channels is one of its own."""
        return Subject(f"rate:channel:{self.name}", CHANNEL, None, self.rates)

    def check(self) -> None:
        """Raises `ChannelOff`."""
        if not self.is_active:
            raise ChannelOff(self.name)

    def admit(self) -> None:
        """Let one more reply in, and count it. Raises `ChannelOff` and `RateLimitExceeded`."""
        self.check()
        if self.rates:
            rates.decide((self.subject,)).check()


@dataclass(frozen=True, slots=True)
class Copy:
    generation: str
    ends: float
    channels: Mapping[str, Channel]


_copies: dict[str, Copy] = {}


def channel(name: str) -> Channel:
    """The channel of this name; one that nobody has configured has no settings of its own."""
    return _channels().get(name) or Channel(name)


def is_known(name: str) -> bool:
    return name in _channels()


def known_channels() -> frozenset[str]:
    return frozenset(_channels())


def switch(*, config: ChannelConfig, is_active: bool, by: Caller) -> None:
    """Switch a channel on or off. `Conflict` if it is so already."""
    with transaction.atomic():
        others = ChannelConfig.objects.filter(pk=config.pk, is_active=not is_active)
        if not others.update(is_active=is_active, updated_at=timezone.now()):
            raise Conflict(f"{config} is {'on' if is_active else 'off'} already.")
        audit.record(f"channelconfig.switched_{'on' if is_active else 'off'}", by=by, target=config, name=config.name)
        drop_channels()


def drop_channels() -> None:
    """Once the running transaction commits, let every process read the channels anew."""
    transaction.on_commit(_drop)


def forget_channels() -> None:
    """Drop this process's copy."""
    _copies.clear()


def _channels() -> Mapping[str, Channel]:
    generation = _generation()
    copy = _copies.get(GENERATION)
    now = time.monotonic()
    if copy is not None and copy.ends > now and generation in (None, copy.generation):
        return copy.channels
    rows = ChannelConfig.objects.select_related("prompt_template").defer("credentials")
    channels = {row.name: Channel.of(row) for row in rows}
    ends = now + (SECONDS_WITHOUT_REDIS if generation is None else MOST_SECONDS)
    _copies[GENERATION] = Copy(generation or "", ends, channels)
    return channels


def _generation() -> str | None:
    """What Redis says now; None while it is away. It is asked before the rows are read."""
    client = redis_client()
    if client.is_away:
        return None
    try:
        return (cast("bytes | None", client.get(GENERATION)) or b"").decode()
    except redis.RedisError:
        client.leave_alone()
        return None


def _drop() -> None:
    forget_channels()
    if not _begin_generation():
        log.warning("channels_not_dropped")
        threading.Thread(target=_keep_trying, daemon=True).start()


def _begin_generation() -> bool:
    try:
        redis_client().set(GENERATION, secrets.token_hex(8), ex=GENERATION_SECONDS)
    except redis.RedisError:
        return False
    return True


def _keep_trying() -> None:
    """Redis may be away for us alone: until the copies of others have ended, they must not be believed."""
    gives_up = time.monotonic() + MOST_SECONDS
    while time.monotonic() < gives_up and not _begin_generation():
        time.sleep(SECONDS_BETWEEN_TRIES)
