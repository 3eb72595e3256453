"""Reading JSON bodies, strictly and in one way for both surfaces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any

from rest_framework.parsers import BaseParser

from inference.payloads import parse_json


class StrictJSONParser(BaseParser):
    """DRF's side of `parse_json`."""

    media_type = "application/json"

    def parse(
        self, stream: IO[bytes], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        return parse_json(stream.read())
