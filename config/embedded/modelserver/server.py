"""The HTTP server: routes, errors, start and stop."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
from aiohttp import web

from config.embedded import account
from config.embedded.modelserver.chat import ChatModel, require_packages
from config.embedded.modelserver.embeddings import Embedder, require_package
from config.embedded.modelserver.protocol import CARDS, ApiError, json_response
from config.embedded.paths import socket_dir
from config.embedded.process import StartProblemError

MAX_BODY_BYTES = 20 * 1024 * 1024
SECONDS_TO_FINISH = 5

logger = logging.getLogger(__name__)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def make_application(chat: ChatModel, embedder: Embedder) -> web.Application:
    """The routes."""
    application = web.Application(middlewares=[errors_in_one_shape], client_max_size=MAX_BODY_BYTES)
    application.cleanup_ctx.append(_keep_open(chat))
    application.router.add_get("/health", health)
    application.router.add_get("/v1/models", list_models)
    application.router.add_get("/v1/models/{name}", show_model)
    application.router.add_post("/v1/chat/completions", chat.handle)
    application.router.add_post("/v1/embeddings", embedder.handle)
    return application


def run(host: str, port: int) -> None:
    """Load the models and serve until SIGTERM or Ctrl-C."""
    require_packages()
    require_package()
    account.own_directory(socket_dir())
    socket = socket_dir() / f"{port}.sock"
    socket.unlink(missing_ok=True)  # left by a killed server on this port, which is ours alone
    application = make_application(ChatModel(socket), Embedder())
    try:
        web.run_app(
            application,
            host=host,
            port=port,
            print=None,
            access_log=None,
            shutdown_timeout=SECONDS_TO_FINISH,
            handler_cancellation=True,
        )
    except OSError as error:
        message = f"The model server cannot listen on {host}:{port}: {error.strerror or error}."
        raise StartProblemError(message) from error


async def health(request: web.Request) -> web.Response:
    """Answers as soon as the models are loaded, because nobody listens before."""
    return json_response({"status": "ok"})


async def list_models(request: web.Request) -> web.Response:
    """`GET /v1/models`."""
    return json_response({"object": "list", "data": [card.as_json() for card in CARDS]})


async def show_model(request: web.Request) -> web.Response:
    """`GET /v1/models/{name}`."""
    name = request.match_info["name"]
    for card in CARDS:
        if card.id == name:
            return json_response(card.as_json())
    raise ApiError(404, f"The model {name[:200]!r} does not exist.", kind="not_found_error", code="model_not_found")


@web.middleware
async def errors_in_one_shape(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn whatever a handler raises into OpenAI's error shape."""
    try:
        return await handler(request)
    except ApiError as error:
        return error.response()
    except web.HTTPException as error:
        kind = "not_found_error" if error.status == 404 else "invalid_request_error"
        return ApiError(error.status, error.reason, kind=kind, code=None).response()
    except (aiohttp.ClientError, ConnectionResetError) as error:
        # One of the two ends has gone. When it is the client, nobody reads this answer.
        logger.warning("%s %s was cut short: %s", request.method, request.path, error)
        return ApiError(502, "The model server failed.", kind="api_error", code="server_error").response()
    except asyncio.CancelledError:
        raise
    except Exception:  # the outermost edge: no traceback may reach a client
        logger.exception("%s %s failed", request.method, request.path)
        return ApiError(500, "The model server failed.", kind="api_error", code="server_error").response()


def _keep_open(chat: ChatModel) -> Callable[[web.Application], AsyncIterator[None]]:
    async def opened(application: web.Application) -> AsyncIterator[None]:
        await chat.open()
        yield
        await chat.close()

    return opened
