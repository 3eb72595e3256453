"""Random sequences of everything that moves a quota, against a model of a few lines: both must always agree."""

from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from accounts.exceptions import Conflict
from accounts.models import ApiKey
from accounts.tests.credentials import api_key
from accounts.tests.factories import UserFactory
from quotas import services
from quotas.exceptions import QuotaExceeded, ReservationNotHeld
from quotas.meters import Meter, period_end
from quotas.models import Grant, Quota, Reservation
from quotas.tests.factories import QuotaFactory, SubscriptionFactory

BEGINNING = datetime(2026, 3, 30, 22, 0, tzinfo=UTC)

# resource, unit, period, limit, overage allowed; the last three are budgets of a key, which count when it calls
QUOTAS = (
    ("llm", "requests", "month", 8, False),
    ("llm", "tokens", "month", 60, False),
    ("llm", "tokens", "day", 25, False),
    ("embedding", "tokens", "day", 5, True),
    ("stt", "seconds", "none", 30, False),
    ("llm", "tokens", "day", 20, False),
    ("llm", "cost", "month", 9, False),
    ("tts", "characters", "none", 50, False),
)
OWN = len(QUOTAS) - 3
METERS = (
    *(Meter("llm", "requests"), Meter("llm", "tokens"), Meter("embedding", "tokens"), Meter("stt", "seconds")),
    *(Meter("llm", "cost"), Meter("tts", "characters")),
)

own = st.integers(0, OWN - 1)
amounts = st.dictionaries(st.sampled_from(METERS), st.integers(0, 12), min_size=1, max_size=4)


@dataclass
class ModelGrant:
    row: object
    left: int
    expires_at: datetime | None
    open: bool = True


@dataclass
class ModelQuota:
    """Draws each charge at once, unit by unit in effect, where the ledger waits until somebody needs to know."""

    meter: Meter
    of_key: bool
    period: str
    base: int
    overage: bool
    resets_at: datetime | None
    base_used: int = 0
    usage: int = 0
    held: int = 0
    given: int = 0  # what grants have covered in this period
    grants: list[ModelGrant] = field(default_factory=list)

    @property
    def granted(self):
        return self.given + sum(grant.left for grant in self.grants if grant.open)

    @property
    def limit(self):
        total = self.base + self.granted
        return total if self.overage else max(total, self.usage + self.held)

    @property
    def room(self):
        return self.limit - self.usage - self.held

    def is_due(self, now):
        ends = [grant.expires_at for grant in self.grants if grant.open]
        return any(at is not None and at <= now for at in [self.resets_at, *ends])

    def begin(self, now):
        """What the ledger does whenever it looks at the pools."""
        self.base_used = min(self.base_used, self.base)
        self.draw()
        for grant in self.grants:
            grant.open = grant.open and grant.left > 0 and not (grant.expires_at and grant.expires_at <= now)
        if self.resets_at is not None and self.resets_at <= now:
            self.usage = self.base_used = self.given = 0
            self.resets_at = period_end(self.period, now)

    def draw(self):
        never = datetime.max.replace(tzinfo=UTC)
        pools = [(self.resets_at or never, -1), *((g.expires_at or never, i) for i, g in enumerate(self.grants))]
        for _expires_at, number in sorted(pools):
            loose = self.usage - self.base_used - self.given
            if number < 0:
                self.base_used += max(0, min(loose, self.base - self.base_used))
            elif self.grants[number].open:
                taken = max(0, min(loose, self.grants[number].left))
                self.grants[number].left -= taken
                self.given += taken

    def charge(self, amount):
        self.usage += amount if self.overage else min(amount, self.room)
        self.draw()


@dataclass
class ModelHold:
    id: object
    expires_at: datetime
    holds: list[tuple[ModelQuota, int]] = field(default_factory=list)
    status: str = "held"

    def let_go(self, status):
        for quota, amount in self.holds:
            quota.held -= amount
        self.status = status


class Ledger(RuleBasedStateMachine):
    open_holds = Bundle("open_holds")
    ended_holds = Bundle("ended_holds")

    def __init__(self):
        super().__init__()
        self.clock = time_machine.travel(BEGINNING, tick=False)
        self.time = self.clock.start()
        self.user = UserFactory()
        SubscriptionFactory(user=self.user)
        api_key(self.user)
        self.key = ApiKey.objects.get(user=self.user)
        self.rows, self.quotas, self.holds = [], [], []
        for number, (resource, unit, period, limit, overage) in enumerate(QUOTAS):
            row = QuotaFactory(
                user=self.user,
                api_key=self.key if number >= OWN else None,
                resource_type=resource,
                unit=unit,
                period=period,
                limit=limit,
                overage_allowed=overage,
            )
            self.rows.append(row)
            meter, of_key = Meter(resource, unit), number >= OWN
            self.quotas.append(ModelQuota(meter, of_key, period, limit, overage, row.reset_date))

    @property
    def now(self):
        return datetime.now(UTC)

    def touched(self, wanted, with_key):
        return [quota for quota in self.quotas if quota.meter in wanted and (with_key or not quota.of_key)]

    def caller(self, with_key):
        return {"user_id": self.user.pk, "api_key_id": self.key.pk if with_key else None}

    def begin_due_periods(self, quotas=None):
        for quota in self.quotas if quotas is None else quotas:
            if quota.is_due(self.now):
                quota.begin(self.now)

    def admits(self, wanted, with_key):
        touched = self.touched(wanted, with_key)
        included = {quota.meter.resource for quota in touched if not quota.of_key}
        return included == {meter.resource for meter in wanted} and all(
            quota.overage or wanted[quota.meter] <= quota.room for quota in touched
        )

    @rule(target=open_holds, wanted=amounts, seconds=st.sampled_from([5, 500, 100_000]), with_key=st.booleans())
    def reserve(self, wanted, seconds, with_key):
        caller = self.caller(with_key)
        self.begin_due_periods(self.touched(wanted, with_key))
        if not self.admits(wanted, with_key):
            with pytest.raises(QuotaExceeded):
                services.reserve(**caller, amounts=wanted, seconds=seconds)
            return multiple()
        admitted = services.reserve(**caller, amounts=wanted, seconds=seconds)
        hold = ModelHold(admitted.id, admitted.expires_at)
        for quota in self.touched(wanted, with_key):
            quota.held += wanted[quota.meter]
            hold.holds.append((quota, wanted[quota.meter]))
        self.holds.append(hold)
        return hold

    @rule(wanted=amounts, with_key=st.booleans())
    def check(self, wanted, with_key):
        if any(quota.is_due(self.now) for quota in self.quotas if with_key or not quota.of_key):
            self.begin_due_periods()
        verdict = services.check(**self.caller(with_key), amounts=wanted)
        assert (verdict.refusal is None) == self.admits(wanted, with_key)

    @rule(wanted=amounts, with_key=st.booleans())
    def consume(self, wanted, with_key):
        before = deepcopy([vars(quota) for quota in self.quotas])
        self.begin_due_periods(self.touched(wanted, with_key))
        if not self.admits(wanted, with_key):
            with pytest.raises(QuotaExceeded):
                services.consume(**self.caller(with_key), amounts=wanted)
            # One transaction: the periods that it began are begun by the next call.
            for quota, former in zip(self.quotas, before, strict=True):
                vars(quota).update(former)
            return
        services.consume(**self.caller(with_key), amounts=wanted)
        for quota in self.touched(wanted, with_key):
            quota.charge(wanted[quota.meter])

    @rule(target=ended_holds, hold=consumes(open_holds), used=amounts)
    def settle(self, hold, used):
        services.settle(reservation_id=hold.id, used=used)
        if hold.status == "held":
            hold.let_go("confirmed")
        for quota, _amount in hold.holds:
            quota.charge(used.get(quota.meter, 0))
        hold.status = "confirmed"
        return hold

    @rule(target=ended_holds, hold=consumes(open_holds))
    def release(self, hold):
        if hold.status == "held":
            services.release(reservation_id=hold.id)
            hold.let_go("released")
        else:
            with pytest.raises(ReservationNotHeld):
                services.release(reservation_id=hold.id)
        return hold

    @rule(hold=ended_holds, used=amounts)
    def end_again(self, hold, used):
        if hold.status == "expired":
            return
        with pytest.raises(ReservationNotHeld):
            services.settle(reservation_id=hold.id, used=used)
        with pytest.raises(ReservationNotHeld):
            services.release(reservation_id=hold.id)

    @rule(seconds=st.sampled_from([1, 60, 3600, 20_000, 86_400, 3_000_000]))
    def let_time_pass(self, seconds):
        self.time.shift(timedelta(seconds=seconds))

    @rule()
    def sweep(self):
        services.sweep_expired()
        for hold in self.holds:
            if hold.status == "held" and hold.expires_at <= self.now:
                hold.let_go("expired")

    @rule()
    def reset_due(self):
        services.reset_due(user_id=self.user.pk)
        self.begin_due_periods()

    @rule(index=own, amount=st.integers(1, 20), seconds=st.sampled_from([None, 50, 4000, 90_000, 5_000_000]))
    def grant(self, index, amount, seconds):
        expires_at = None if seconds is None else self.now + timedelta(seconds=seconds)
        row = services.grant(quota=self.rows[index], amount=amount, expires_at=expires_at, by=self.user)
        self.quotas[index].begin(self.now)
        self.quotas[index].grants.append(ModelGrant(row, amount, expires_at))

    @rule(index=own, number=st.integers(0, 3))
    def revoke_grant(self, index, number):
        quota = self.quotas[index]
        if number >= len(quota.grants):
            return
        before = deepcopy(vars(quota))
        quota.begin(self.now)
        grant = quota.grants[number]
        if grant.open:
            services.revoke_grant(grant=grant.row, by=self.user)
            grant.open = False
            return
        with pytest.raises(Conflict):
            services.revoke_grant(grant=grant.row, by=self.user)
        vars(quota).update(before)

    @rule(index=own, limit=st.integers(0, 40))
    def set_limit(self, index, limit):
        services.set_limit(quota=self.rows[index], limit=limit, by=self.user)
        self.quotas[index].begin(self.now)
        self.quotas[index].base = limit

    @rule(index=own)
    def reset_usage(self, index):
        services.reset_usage(quota=self.rows[index], by=self.user)
        quota = self.quotas[index]
        quota.begin(self.now)
        quota.usage = quota.base_used = quota.given = 0

    @invariant()
    def the_database_agrees_with_the_model(self):
        found = {quota.pk: quota for quota in Quota.objects.filter(user=self.user)}
        assert len(found) == len(QUOTAS)
        for row, quota in zip(self.rows, self.quotas, strict=True):
            real = found[row.pk]
            assert (real.current_usage, real.held) == (quota.usage, quota.held)
            assert (real.base_limit, real.limit, real.reset_date) == (quota.base, quota.limit, quota.resets_at)
            assert real.granted == quota.granted

    def teardown(self):
        """Look at all pools at last: each grant is spent as far as the model says."""
        self.time.shift(timedelta(seconds=1))
        for row, quota in zip(self.rows[:OWN], self.quotas, strict=False):
            services.set_limit(quota=row, limit=quota.base, by=self.user)
            quota.begin(self.now)
            left = [grant.left for grant in quota.grants]
            assert [one.remaining for one in Grant.objects.filter(quota=row).order_by("id")] == left
        self.clock.stop()

    @invariant()
    def no_quota_is_overspent(self):
        for quota in self.quotas:
            assert quota.usage >= 0
            assert quota.held >= 0
            assert quota.overage or quota.usage + quota.held <= quota.limit

    @invariant()
    def what_is_held_is_the_sum_of_the_open_holds(self):
        held = dict.fromkeys((str(row.pk) for row in self.rows), 0)
        for reservation in Reservation.objects.filter(user=self.user, status="held"):
            for quota, amount in reservation.holds.items():
                held[quota] += amount
        assert [held[str(row.pk)] for row in self.rows] == [quota.held for quota in self.quotas]


@pytest.mark.parametrize("examples", [20, pytest.param(600, marks=pytest.mark.drill)])
def test_the_ledger_agrees_with_its_model(db, examples):
    run_state_machine_as_test(
        Ledger,
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            deadline=None,
            database=None,
            # Shrinking takes minutes here, and a sequence of thirty steps can be read as it is.
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
