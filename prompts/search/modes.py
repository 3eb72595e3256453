"""How a question is compared with documents."""

from __future__ import annotations

from enum import StrEnum


class Mode(StrEnum):
    HYBRID = "hybrid"
    SEMANTIC = "semantic"
    TEXT = "text"
