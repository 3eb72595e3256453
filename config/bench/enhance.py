"""The part of `manage.py bench prompts` about `POST prompts/enhance`: what a call takes over HTTP, without a model."""

from __future__ import annotations

import http.client
import os
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import orjson

from config.bench import rows
from config.bench.figures import percentile
from config.bench.installation import Installation
from config.bench.servers import LOOPBACK, Servers
from config.embedded import parts
from config.embedded.process import StartProblemError
from config.firstdata import ensure_local_models
from prompts.intents import upkeep
from prompts.models import PromptHistory

PATH = "/api/v1/prompts/enhance"
CALLS, QUICK_CALLS = 1_000, 60
WARMING = 20
PROMISED_MS = 25.0


def run(installation: Installation, texts: Sequence[str], *, quick: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """One caller, one call after the other: texts that are classified already, and others that have to be embedded."""
    calls = QUICK_CALLS if quick else CALLS
    servers = Servers(installation, workers=1, command=None)
    ensure_local_models(os.environ["MODELS_URL"])
    if parts.needs_models():
        models = parts.models()
        installation.launch(models)
        models.wait_ready()
    say("The starter patterns are embedded and learned.")
    upkeep.tend()
    upkeep.request_training(by=None)
    upkeep.train_pending()
    servers.start_only_web()
    key = rows.make_customers(1)[0].key
    say(f"{calls} prompts are improved, one after the other: known ones, then new ones.")
    fresh = list(dict.fromkeys(texts))[: calls + WARMING]
    _times(servers.port, key, fresh[:WARMING])
    result = {
        "cached": _figures(_times(servers.port, key, (fresh[at % WARMING] for at in range(calls)))),
        "embedded": _figures(_times(servers.port, key, fresh[WARMING:])),
        "promised_p50_ms": PROMISED_MS,
    }
    if PromptHistory.objects.count() != calls + len(fresh):
        raise StartProblemError("The history does not hold each prompt once.")
    return result


def _times(port: int, key: str, texts: Iterable[str]) -> list[float]:
    """Seconds of each call, over a connection that stays open. Raises `StartProblemError` if one fails."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=30)
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    times = []
    for text in texts:
        body = orjson.dumps({"prompt": text})
        begun = time.perf_counter()
        connection.request("POST", PATH, body, headers)
        answer = connection.getresponse()
        said = answer.read()
        times.append(time.perf_counter() - begun)
        if answer.status != http.client.OK or orjson.loads(said)["is_fallback"]:
            raise StartProblemError(f"A prompt was not improved as it should be: {said.decode()[:300]}")
    connection.close()
    return times


def _figures(times: Sequence[float]) -> dict[str, float]:
    ordered = sorted(times)
    return {"p50_ms": percentile(ordered, 0.5), "p95_ms": percentile(ordered, 0.95), "calls": len(ordered)}
