"""The metered road's two transactions: `open_call` before the model is asked, `settle` after."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from math import ceil
from typing import Any
from uuid import UUID

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from accounts.caller import Caller
from accounts.exceptions import InvalidInput
from accounts.ids import uuid7
from inference import rows
from inference.models import Price, Request
from inference.payloads import bounded_copy, estimate_input_tokens
from inference.routes import Amounts, Route, routes_for
from quotas import idempotency, rates, used_tokens
from quotas import services as quotas
from quotas.exceptions import ReservationNotHeld
from quotas.idempotency import Answer, Claim
from quotas.meters import Meter, Resource, Unit
from quotas.windows import RouteClass

log = structlog.get_logger(__name__)

Status = Request.Status
Usage = Request.Usage

CLIENT_DISCONNECTED = "client_disconnected"
UPSTREAM_ERROR = "upstream_error"
DEADLINE = "deadline"
ABANDONED = "abandoned"
USER_ERASED = "user_erased"

# What is metered of each kind of work, besides requests and cost.
MEASURED: dict[str, tuple[Unit, ...]] = {
    Resource.LLM: (Unit.TOKENS,),
    Resource.EMBEDDING: (Unit.TOKENS,),
    Resource.STT: (Unit.TOKENS, Unit.SECONDS, Unit.CHARACTERS),
    Resource.TTS: (Unit.TOKENS, Unit.SECONDS, Unit.CHARACTERS),
}

# The estimate counts three bytes a token; no text has tokens of four times that on the average.
CERTAINLY_TOO_LONG = 4


@dataclass(slots=True)
class Outcome:
    """What a call came to. The edge fills it in while chunks pass; `settle` writes it down."""

    status: Status = Status.RUNNING
    error_code: str = ""
    error_message: str = ""
    usage: Usage = Usage.NONE
    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    seconds: int = 0
    characters: int = 0
    route: Route | None = None
    first_byte: float | None = None
    text: str = ""
    response: Any = None
    answer: Answer | None = None

    def fail(self, code: str, message: str, status: Status = Status.ERROR) -> None:
        self.status, self.error_code, self.error_message = status, code, message

    @property
    def amounts(self) -> Amounts:
        """What there is to pay for."""
        if self.usage == Usage.NONE:
            return {}
        return {
            Price.Unit.REQUESTS: 1,
            Price.Unit.INPUT_TOKENS: self.input_tokens,
            Price.Unit.CACHED_INPUT_TOKENS: self.cached_input_tokens,
            Price.Unit.OUTPUT_TOKENS: self.output_tokens,
            Price.Unit.SECONDS: self.seconds,
            Price.Unit.CHARACTERS: self.characters,
        }


@dataclass(frozen=True, slots=True)
class UsedPrompt:
    """The version of a prompt template that a call's messages were made of, and how the caller named it."""

    version_id: UUID
    name: str
    number: int
    label: str = ""

    def as_json(self) -> dict[str, Any]:
        return {"name": self.name, "version": self.number, "label": self.label or None}


@dataclass(slots=True)
class Call:
    """An open call: its hold is taken and its request row is `running`. `claim` is that to its idempotency key."""

    request_id: UUID
    reservation_id: UUID
    caller: Caller
    kind: str
    routes: tuple[Route, ...]
    payload: dict[str, Any]
    is_stream: bool
    input_estimate: int
    begun: float
    opened_at: datetime
    claim: Claim | None = None
    most_seconds: float | None = None
    outcome: Outcome = field(default_factory=Outcome)
    # What a stream begins with, before the model's first words.
    prologue: bytes = b""

    @property
    def model(self) -> str:
        return self.routes[0].name

    @property
    def deadline(self) -> float:
        """The monotonic time by which the last byte must have come."""
        return self.begun + _deadline_seconds(self.most_seconds)

    @property
    def route(self) -> Route:
        """The route that answered, or the first."""
        return self.outcome.route or self.routes[0]


def open_call(
    *,
    caller: Caller,
    kind: Resource,
    payload: dict[str, Any],
    seconds: int = 0,
    characters: int = 0,
    claim: Claim | None = None,
    prompt: UsedPrompt | None = None,
    most_seconds: float | None = None,
) -> Call:
    """Hold what the call may use and write its request row, in one statement.

    `seconds` and `characters` are those of speech, and of text to be spoken; the outcome begins with them. `prompt` is
    what the messages in `payload` were made of, and kept with the request. `most_seconds` is how long the call may take
    if that is less than CALL_DEADLINE_SECONDS. With an idempotency key, this is done in the transaction that claims it
    (`quotas.idempotency.claimed`). Raises `ModelNotFound`, `QuotaExceeded`, `InvalidInput`; then nothing has been
    written.
    """
    name = payload.get("model")
    if name is None and kind == Resource.LLM and caller.preferred_model:
        name = caller.preferred_model
        payload = payload | {"model": name}
    if not isinstance(name, str) or not name:
        raise InvalidInput("Name a model.", code="required", param="model")
    routes = routes_for(name, kind)
    input_estimate = _input_estimate(payload, routes[0])
    output_estimate = _output_estimate(payload, routes[0]) if kind == Resource.LLM else 0
    call = Call(
        request_id=uuid7(),
        reservation_id=claim.id if claim else uuid7(),
        caller=caller,
        kind=kind,
        routes=routes,
        payload=payload,
        is_stream=kind == Resource.LLM and payload.get("stream") is True,
        input_estimate=input_estimate,
        begun=time.monotonic(),
        opened_at=timezone.now(),
        outcome=Outcome(seconds=seconds, characters=characters),
        claim=claim,
        most_seconds=most_seconds,
    )
    amounts = {
        Price.Unit.REQUESTS: 1,
        Price.Unit.INPUT_TOKENS: input_estimate,
        Price.Unit.OUTPUT_TOKENS: output_estimate,
        Price.Unit.SECONDS: seconds,
        Price.Unit.CHARACTERS: characters,
    }
    row = rows.opening(
        request_id=call.request_id,
        api_key_id=caller.api_key_id,
        request_type=kind,
        model=name,
        is_stream=call.is_stream,
        input_tokens=input_estimate,
        seconds=seconds,
        characters=characters,
        prompt_version_id=prompt.version_id if prompt else None,
        request_data=_kept(payload, prompt),
    )
    quotas.reserve(
        reservation_id=call.reservation_id,
        user_id=caller.user_id,
        api_key_id=caller.api_key_id,
        amounts=_metered(kind, amounts, routes[0].cost(amounts, at=call.opened_at)),
        seconds=ceil(_deadline_seconds(most_seconds)) + settings.HOLD_GRACE_SECONDS,
        idempotency_key=claim.key if claim else "",
        also=row,
    )
    return call


def settle(call: Call) -> None:
    """Charge what `call.outcome` says was used and finish the request row, in one statement, once.

    A call that the sweeper has ended meanwhile stays as the sweeper wrote it. With an idempotency key, what was charged
    is kept with `call.outcome.answer`, in the same transaction; what cost nothing frees the key.
    """
    if call.claim is None:
        _settle(call)
        return
    with transaction.atomic(savepoint=False):
        _settle(call)
        if call.outcome.usage == Usage.NONE or call.outcome.answer is None:
            idempotency.free(call.claim.id)
        else:
            idempotency.finish(call.claim.id, call.outcome.answer)


def _settle(call: Call) -> None:
    outcome = call.outcome
    amounts = outcome.amounts
    cost = call.route.cost(amounts, at=call.opened_at)
    ending = rows.finishing(
        request_id=call.request_id,
        status=outcome.status,
        error_code=outcome.error_code[:60],
        error_message=outcome.error_message[:2000].replace("\0", "\ufffd"),
        provider=outcome.route.provider if outcome.route else "",
        usage=outcome.usage,
        input_tokens=outcome.input_tokens,
        cached_input_tokens=outcome.cached_input_tokens,
        output_tokens=outcome.output_tokens,
        seconds=amounts.get(Price.Unit.SECONDS, 0),
        characters=amounts.get(Price.Unit.CHARACTERS, 0),
        cost=cost,
        processing_time=_milliseconds(call.begun, time.monotonic()),
        first_byte_time=_milliseconds(call.begun, outcome.first_byte) if outcome.first_byte else None,
        response_data=bounded_copy(outcome.response, most=settings.HISTORY_BYTES) if outcome.response else None,
        finished_at=timezone.now(),
    )
    if outcome.usage == Usage.NONE:
        with transaction.atomic(savepoint=False):
            if rows.finish(ending):
                _release(call.reservation_id)
        return
    used = _metered(call.kind, amounts, cost)
    try:
        quotas.settle(reservation_id=call.reservation_id, used=used, also=ending)
    except ReservationNotHeld:
        log.warning("call_settled_before", request=str(call.request_id))
        return
    subjects = rates.subjects_of(call.caller, RouteClass.INFERENCE)
    tokens = outcome.input_tokens + outcome.output_tokens
    # What is settled stays settled, also if the tokens cannot be counted.
    transaction.on_commit(partial(used_tokens.note, subjects, tokens), robust=True)


def sweep_abandoned(*, now: datetime | None = None, batch: int = 500, all_running: bool = False) -> int:
    """End the calls whose process died: what was sent upstream is charged, and the hold let go; how many there were.

    How much came back nobody knows, so only the request itself and its (estimated) input are charged; and nothing where
    there is an idempotency key, since the caller will send the call again. `all_running` is for a start at which
    nothing else runs: it does not wait until the holds expire.
    """
    now = now or timezone.now()
    lost = Request.objects.filter(status=Status.RUNNING).order_by("id")
    if not all_running:
        begun = now - timedelta(seconds=settings.CALL_DEADLINE_SECONDS + settings.HOLD_GRACE_SECONDS)
        # Calls of Mainstay's own hold nothing.
        lost = lost.filter(Q(reservation__expires_at__lte=now) | Q(reservation=None, created_at__lte=begun))
    swept = 0
    for request in lost[:batch]:
        with transaction.atomic():
            has_key = request.reservation_id is not None and idempotency.is_claimed(request.reservation_id)
            message = "The process that handled this call was lost."
            swept += _end(request, now, ABANDONED, message, is_charged=not has_key)
    return swept


def end_running(*, user_id: UUID) -> None:
    """End the user's running calls as if their processes had died; what they still bring is not written down."""
    now = timezone.now()
    with transaction.atomic():
        for request in Request.objects.filter(user_id=user_id, status=Status.RUNNING).order_by("id"):
            _end(request, now, USER_ERASED, "")


def _end(request: Request, now: datetime, code: str, message: str, *, is_charged: bool = True) -> int:
    claimed = Request.objects.filter(pk=request.pk, status=Status.RUNNING).update(
        status=Status.ERROR,
        error_code=code,
        error_message=message,
        finished_at=now,
        processing_time=int((now - request.created_at) / timedelta(milliseconds=1)),
        **({} if is_charged else {"usage": Usage.NONE, "input_tokens": 0}),
    )
    if not claimed or request.reservation_id is None:
        return claimed
    if is_charged:
        sent = {
            Price.Unit.INPUT_TOKENS: request.input_tokens,
            Price.Unit.SECONDS: request.seconds,
            Price.Unit.CHARACTERS: request.characters,
        }
        used = _metered(request.request_type, sent, cost=0)
        quotas.settle(reservation_id=request.reservation_id, used=used)
    else:
        _release(request.reservation_id)
        idempotency.free(request.reservation_id)
    return claimed


def _release(reservation_id: UUID) -> None:
    try:
        quotas.release(reservation_id=reservation_id)
    except ReservationNotHeld:
        # It expired and was swept first; there is nothing to charge, so nothing is left to do.
        log.warning("hold_expired_before_release", reservation=str(reservation_id))


def _metered(kind: str, amounts: Amounts, cost: int) -> dict[Meter, int]:
    """The amounts by meter, as quotas know them: of all units that the kind has, also where there is none of one."""
    measured = {
        Unit.TOKENS: amounts.get(Price.Unit.INPUT_TOKENS, 0) + amounts.get(Price.Unit.OUTPUT_TOKENS, 0),
        Unit.SECONDS: amounts.get(Price.Unit.SECONDS, 0),
        Unit.CHARACTERS: amounts.get(Price.Unit.CHARACTERS, 0),
    }
    return {
        Meter(kind, Unit.REQUESTS): 1,
        **{Meter(kind, unit): measured[unit] for unit in MEASURED[kind]},
        Meter(kind, Unit.COST): cost,
    }


def _deadline_seconds(most: float | None) -> float:
    longest = float(settings.CALL_DEADLINE_SECONDS)
    return longest if most is None else min(most, longest)


def _kept(payload: dict[str, Any], prompt: UsedPrompt | None) -> Any:
    """What the history keeps of a body."""
    copy = bounded_copy(payload, most=settings.HISTORY_BYTES)
    return copy | {"prompt": prompt.as_json()} if prompt else copy


def _input_estimate(payload: dict[str, Any], route: Route) -> int:
    """About how many tokens the input has; `InvalidInput` if the model could not take it by any count."""
    estimate = estimate_input_tokens(payload)
    if route.context_window is None:
        return estimate
    if estimate > CERTAINLY_TOO_LONG * route.context_window:
        raise InvalidInput(
            f"The input is longer than the {route.context_window} tokens that {route.name} can take.",
            code="context_length_exceeded",
            param="messages",
        )
    return min(estimate, route.context_window)


def _output_estimate(payload: dict[str, Any], route: Route) -> int:
    """The most output tokens the call may cost, over all of its choices."""
    param = "max_completion_tokens" if payload.get("max_completion_tokens") is not None else "max_tokens"
    limit = payload.get(param)
    if limit is None:
        limit = route.max_output_tokens or settings.DEFAULT_OUTPUT_TOKENS
    choices = payload.get("n") or 1
    for value, name, most in ((limit, param, 10_000_000), (choices, "n", 128)):
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= most:
            raise InvalidInput(f"{name} must be a whole number from 1 to {most}.", param=name, code="invalid_type")
    return int(limit * choices)


def _milliseconds(begun: float, ended: float) -> int:
    return max(0, round((ended - begun) * 1000))
