"""The parts of the OpenAI protocol that every route shares: models, bodies, errors."""

from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web

CHAT = "smollm2"
EMBEDDING = "use-multilingual"
# Speech will add two names here, and a module with its routes beside chat.py and embeddings.py.


class ApiError(Exception):
    """An answer in OpenAI's error shape."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        code: str | None,
        param: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.code = code
        self.param = param

    def response(self) -> web.Response:
        """This error as an HTTP answer."""
        error = {"message": str(self), "type": self.kind, "param": self.param, "code": self.code}
        return json_response({"error": error}, status=self.status)


@dataclass(frozen=True, slots=True)
class ModelCard:
    """One entry of `GET /v1/models`."""

    id: str
    created: int
    owned_by: str

    def as_json(self) -> dict[str, Any]:
        """The entry as OpenAI writes it."""
        return {"id": self.id, "object": "model", "created": self.created, "owned_by": self.owned_by}


CARDS = (
    ModelCard(CHAT, created=1730419200, owned_by="huggingface"),
    ModelCard(EMBEDDING, created=1562630400, owned_by="google"),
)


def json_response(content: Any, *, status: int = 200) -> web.Response:
    """`content` as a JSON answer."""
    return web.Response(body=orjson.dumps(content), status=status, content_type="application/json")


async def read_json_object(request: web.Request) -> dict[str, Any]:
    """The request's body, which must be a JSON object."""
    try:
        body = orjson.loads(await request.read())
    except orjson.JSONDecodeError as error:
        raise ApiError(400, f"The body is not valid JSON: {error}", code="invalid_json") from error
    if not isinstance(body, dict):
        raise ApiError(400, "The body must be a JSON object.", code="invalid_type")
    return body


def require_model(body: dict[str, Any], expected: str) -> None:
    """Refuse a body that names no model, a model that is not here, or one that cannot do what the path asks."""
    name = body.get("model")
    if not isinstance(name, str) or not name:
        raise ApiError(400, "You must provide a model.", code="missing_required_parameter", param="model")
    if name not in {card.id for card in CARDS}:
        message = f"The model {name[:200]!r} does not exist."
        raise ApiError(404, message, kind="not_found_error", code="model_not_found", param="model")
    if name != expected:
        message = f"The model {name!r} cannot be used here; use {expected!r}."
        raise ApiError(400, message, code="unsupported_model", param="model")
