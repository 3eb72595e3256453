"""The road's statements, taken from the road itself while it serves a call, so that what is measured cannot drift."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any
from uuid import UUID

from django.db import connection

from accounts.caller import Caller
from accounts.credentials import caller_for_key
from config.bench.load import MAX_TOKENS, MESSAGES
from config.bench.replay import Road, Transaction
from config.bench.rows import Customer
from conversations import services
from inference import upstream
from inference.exchange import begin
from inference.services import Call


@dataclass(slots=True)
class Watched:
    """A call whose two transactions are written down."""

    call: Call
    settle_unwatched: Callable[[], None]
    settling: Transaction

    def settle(self) -> None:
        watch(self.settle_unwatched, self.settling)


def watch(work: Callable[[], Any], into: Transaction) -> Any:
    """Do `work`, and write its statements down."""

    def note(execute: Callable[..., Any], statement: str, values: Any, many: bool, context: dict[str, Any]) -> Any:
        into.statements.append((statement, _plain(values)))
        into.is_atomic = into.is_atomic or context["connection"].in_atomic_block
        return execute(statement, values, many, context)

    with connection.execute_wrapper(note):
        return work()


def _plain(value: Any) -> Any:
    """`value` without enumerations, which a process without Django could not read."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


def capture(customer: Customer, model: str) -> Road:
    """Make one call (the second, when nothing has to be looked up any more) and answer its statements."""
    return asyncio.run(_capture(caller_for_key(customer.key), customer, model))


async def _capture(caller: Caller, customer: Customer, model: str) -> Road:
    payload = {"model": model, "max_tokens": MAX_TOKENS, "messages": MESSAGES}
    for _ in range(2):
        opening, settling = Transaction(), Transaction()

        def open_watched(opening: Transaction = opening, settling: Transaction = settling) -> Watched:
            turn = watch(lambda: services.open_chat(caller=caller, payload=payload), opening)
            return Watched(turn.call, turn.settle, settling)

        exchange = await begin(open_watched)
        await exchange.answer()
    await upstream.close_session()
    call = exchange.call
    ids: tuple[UUID, ...] = (call.request_id, call.reservation_id)
    return Road([opening, settling], fresh=ids, user_id=customer.user_id, api_key_id=customer.api_key_id)
