"""Where the event loop meets synchronous services: threads to run them in, and tasks that outlive a request."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any, TypeVar

import structlog
from django.conf import settings
from django.db import DatabaseError, close_old_connections, connection

log = structlog.get_logger(__name__)

T = TypeVar("T")

IDLE_SECONDS = 1.0

_thread = threading.local()

_open: set[asyncio.Future[Any]] = set()


@lru_cache(maxsize=1)
def _threads() -> ThreadPoolExecutor:
    """Few threads, each with a connection of its own that it keeps: none is ever waited for or held while waiting."""
    return ThreadPoolExecutor(max_workers=settings.SERVICE_THREADS, thread_name_prefix="service")


def in_thread(work: Callable[[], T]) -> asyncio.Future[T]:
    """Run a synchronous service off the event loop. It runs to its end even if the awaiting task is cancelled."""
    running = asyncio.get_running_loop().run_in_executor(_threads(), _run, work)
    _open.add(running)
    running.add_done_callback(_open.discard)
    return asyncio.shield(running)


def in_background(work: Coroutine[Any, Any, T], *, told: type[Exception] | None = None) -> asyncio.Task[T]:
    """Start a task that no request's cancellation reaches; its failure is logged.

    One of the class `told` is not: that is for whoever awaits the task.
    """
    task = asyncio.get_running_loop().create_task(work)
    _open.add(task)
    task.add_done_callback(_open.discard)
    task.add_done_callback(partial(log_failure, told=told))
    return task


async def drain(seconds: float = 10.0) -> None:
    """Wait for what runs in threads and in the background, at shutdown; what does not end in time is the sweeper's."""
    ends = time.monotonic() + seconds
    while _open and (left := ends - time.monotonic()) > 0:
        await asyncio.wait(_open, timeout=left)


def log_failure(task: asyncio.Future[Any], *, told: type[Exception] | None = None) -> None:
    """A done-callback for work that nobody may be waiting for any more."""
    if task.cancelled() or (error := task.exception()) is None:
        return
    if told is None or not isinstance(error, told):
        log.error("background_task_failed", exc_info=error)


def _run(work: Callable[[], T]) -> T:
    idle = time.monotonic() - getattr(_thread, "last", 0.0)
    # The server may have been restarted while this thread had nothing to do.
    if idle > IDLE_SECONDS and connection.connection is not None and not connection.is_usable():
        connection.close()
    try:
        return work()
    except DatabaseError:
        close_old_connections()
        raise
    finally:
        _thread.last = time.monotonic()
