"""Structured logs: one JSON object a line on standard output, without secrets."""

from __future__ import annotations

import re
from typing import Any

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

# API keys and links of ours, keys of Stripe and of the usual providers, bearer credentials, JWTs.
SECRET = re.compile(
    r"((?:msk|shr)_[A-Za-z0-9_]{4})[A-Za-z0-9_]+|([sr]k_(?:live|test)_|whsec_)[A-Za-z0-9]{8,}|(sk-)[A-Za-z0-9_-]{8,}|(eyJ)[\w-]+\.[\w-]+\.[\w-]+"
    r"|((?i:bearer|basic) )[\w.~+/=-]{8,}"
)
SECRET_NAMES = frozenset(
    {"authorization", "x_api_key", "password", "api_key", "secret", "token", "access", "refresh", "cookie"}
)


def mask(text: str) -> str:
    """`text` with everything that looks like a credential cut down to its kind."""
    return SECRET.sub(lambda found: next(group for group in found.groups() if group) + "…", text)


def mask_secrets(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    return {name: value if name.startswith("_") else _masked(name, value) for name, value in event.items()}


def _masked(name: str, value: Any) -> Any:
    if name.lower().replace("-", "_") in SECRET_NAMES:
        return "…"
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, dict):
        return {key: _masked(str(key), inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_masked("", inner) for inner in value]
    return value


SHARED: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
    mask_secrets,
]


def logging_config(*, level: str) -> dict[str, Any]:
    """A `dictConfig` that sends the standard library's and structlog's records through one JSON formatter."""
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    renderer = structlog.processors.JSONRenderer(lambda event, **_: orjson.dumps(event, default=str).decode())
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "json": {
                "()": structlog.stdlib.ProcessorFormatter,
                "foreign_pre_chain": SHARED,
                "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
            }
        },
        "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "json"}},
        "root": {"handlers": ["console"], "level": level},
        "loggers": {
            "django": {"handlers": ["console"], "level": level, "propagate": False},
            # Our own middleware writes one line a request, with the id and without the noise.
            "django.request": {"handlers": ["console"], "level": "ERROR", "propagate": False},
            "django.server": {"handlers": [], "level": "ERROR", "propagate": False},
            # Two lines a call, with the whole address.
            "stripe": {"handlers": ["console"], "level": "WARNING", "propagate": False},
            # Wrong passwords are audit events.
            "axes": {"handlers": ["console"], "level": "ERROR", "propagate": False},
        },
    }
