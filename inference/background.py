"""Where the event loop meets synchronous services: threads to run them in, and tasks that outlive a request."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, TypeVar

import structlog
from django.conf import settings
from django.db import DatabaseError, close_old_connections, connection

log = structlog.get_logger(__name__)

T = TypeVar("T")

IDLE_SECONDS = 1.0

_thread = threading.local()

_tasks: set[asyncio.Task[Any]] = set()


@lru_cache(maxsize=1)
def _threads() -> ThreadPoolExecutor:
    """Few threads, each with a connection of its own that it keeps: none is ever waited for or held while waiting."""
    return ThreadPoolExecutor(max_workers=settings.SERVICE_THREADS, thread_name_prefix="service")


async def in_thread(work: Callable[[], T]) -> T:
    """Run a synchronous service off the event loop.

    If the awaiting task is cancelled, `work` still runs to its end: shield what must not be forgotten.
    """
    return await asyncio.get_running_loop().run_in_executor(_threads(), _run, work)


def in_background(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Start a task that no request's cancellation reaches; its failure is logged."""
    task = asyncio.get_running_loop().create_task(work)
    _tasks.add(task)
    task.add_done_callback(_finished)
    return task


async def drain(seconds: float = 10.0) -> None:
    """Wait for the background tasks, at shutdown; what does not end in time is the sweeper's."""
    if _tasks:
        await asyncio.wait(_tasks, timeout=seconds)


def _finished(task: asyncio.Task[Any]) -> None:
    _tasks.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
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
