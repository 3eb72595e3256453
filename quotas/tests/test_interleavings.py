"""Thousands of random steps by several threads at once, some killed on the way: in the end everything adds up."""

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta

import psycopg
import pytest
from django.db import OperationalError, connection, transaction
from django.utils import timezone

from accounts.exceptions import NotFound
from accounts.ids import uuid7
from accounts.models import ApiKey, AuditEvent
from accounts.tests.credentials import api_key
from accounts.tests.factories import UserFactory
from quotas import services
from quotas.exceptions import QuotaExceeded, ReservationNotHeld
from quotas.meters import Meter
from quotas.models import Grant, PlanLimit, Quota, Reservation
from quotas.services.budgets import Budget, set_key_budgets
from quotas.tests.factories import PlanFactory

THREADS, STEPS = 8, 350
REQUESTS, TOKENS, COST, SECONDS = (
    Meter("llm", "requests"),
    Meter("llm", "tokens"),
    Meter("llm", "cost"),
    Meter("stt", "seconds"),
)
PLANS = (
    {("llm", "requests", "month"): 60, ("llm", "tokens", "day"): 600, ("stt", "seconds", "none"): 90},
    {("llm", "requests", "month"): 25, ("llm", "tokens", "day"): 900, ("llm", "tokens", "month"): 1500},
    {("llm", "requests", "month"): 90, ("llm", "cost", "year"): 400, ("stt", "seconds", "none"): 30},
)
BUDGETS = ([], [Budget(REQUESTS, "day", 30)], [Budget(REQUESTS, "day", 9), Budget(TOKENS, "month", 300)])

# Usage goes only with a period, which begins with none, or with its quota. What went is written down here.
REMEMBER = """
CREATE TABLE forgotten (quota_id uuid, usage bigint);
CREATE FUNCTION remember() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        INSERT INTO forgotten VALUES (old.id, old.current_usage);
    ELSIF new.current_usage = 0 THEN
        INSERT INTO forgotten VALUES (old.id, old.current_usage);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER remember AFTER UPDATE OR DELETE ON quotas_quota FOR EACH ROW EXECUTE FUNCTION remember();
"""
FORGET = "DROP TRIGGER remember ON quotas_quota; DROP FUNCTION remember; DROP TABLE forgotten"


class Shop:
    """What the threads share: customers with keys, plans, and holds that anybody may end."""

    def __init__(self):
        self.operator = UserFactory()
        self.plans = [PlanFactory(limits=limits) for limits in PLANS]
        PlanLimit.objects.filter(plan=self.plans[1], unit="tokens", period="month").update(overage_allowed=True)
        self.users = UserFactory.create_batch(3)
        for user in self.users:
            api_key(user)
            services.change_plan(user_id=user.pk, plan=self.plans[0], by=self.operator)
        self.keys = {key.user_id: key.pk for key in ApiKey.objects.all()}
        self.open_holds = []


class Worker:
    """One thread, which takes random steps and counts those that were not refused."""

    def __init__(self, shop, seed):
        self.shop, self.random, self.done = shop, random.Random(seed), Counter()

    def run(self):
        steps = [self.begin, *[self.settle] * 3, self.release, self.consume, self.sweep, self.due, self.reset_usage]
        steps += [*[self.begin] * 4, self.grant, self.set_limit, self.change_plan, self.set_budgets]
        steps += [self.be_killed_with_a_hold, self.be_killed_while_holding]
        try:
            for _ in range(STEPS):
                step = self.random.choice(steps)
                with suppress(QuotaExceeded, ReservationNotHeld, NotFound):
                    step()
                    self.done[step.__name__] += 1
        finally:
            connection.close()
        return self.done

    # Steps ---------------------------------------------------------------------------------------------------------

    def begin(self):
        self.shop.open_holds.append(self.hold().id)

    def settle(self):
        if (hold := self.any_hold()) is not None:
            services.settle(reservation_id=hold, used=self.amounts())
            self.done["confirmed"] += 1

    def release(self):
        if (hold := self.any_hold()) is not None:
            services.release(reservation_id=hold)
            self.done["released"] += 1

    def consume(self):
        services.consume(**self.caller(), amounts=self.amounts())
        self.done["confirmed"] += 1

    def sweep(self):
        """Now and then long before the time: calls that still run then settle too late."""
        ahead = timedelta(hours=self.random.choice([0, 0, 0, 2]))
        services.sweep_expired(now=timezone.now() + ahead)

    def due(self):
        """A period ends; whoever comes first begins the next one."""
        if (quota := self.any_quota(any_period=False)) is not None:
            Quota.objects.filter(pk=quota.pk).update(reset_date=timezone.now() - timedelta(seconds=1))
            if self.random.random() < 0.5:
                services.reset_due(user_id=quota.user_id)

    def reset_usage(self):
        if (quota := self.any_quota()) is not None:
            services.reset_usage(quota=quota, by=self.shop.operator)

    def grant(self):
        if (quota := self.any_quota()) is not None:
            soon = timezone.now() + timedelta(milliseconds=200)
            ends, amount = self.random.choice([None, soon]), self.random.randint(1, 20)
            services.grant(quota=quota, amount=amount, expires_at=ends, by=self.shop.operator)

    def set_limit(self):
        if (quota := self.any_quota()) is not None:
            services.set_limit(quota=quota, limit=self.random.randint(0, 100), by=self.shop.operator)

    def change_plan(self):
        plan = self.random.choice(self.shop.plans)
        services.change_plan(user_id=self.random.choice(self.shop.users).pk, plan=plan, by=self.shop.operator)

    def set_budgets(self):
        user = self.random.choice(self.shop.users)
        budgets = self.random.choice(BUDGETS)
        set_key_budgets(key_id=self.shop.keys[user.pk], user_id=user.pk, budgets=budgets, by=user)

    def be_killed_with_a_hold(self):
        """Between the two transactions: the hold stays until it is swept."""
        hold = self.hold(seconds=self.random.choice([0, 60]))
        kill_own_connection()
        with pytest.raises(OperationalError):
            services.settle(reservation_id=hold.id, used=self.amounts())
        connection.close()

    def be_killed_while_holding(self):
        """Within a transaction: nothing of it may stay."""
        with suppress(OperationalError), transaction.atomic():
            hold = self.hold(idempotency_key=str(uuid7()))
            kill_own_connection()
            services.settle(reservation_id=hold.id, used=self.amounts())
            raise AssertionError("a killed connection settled")
        connection.close()

    # What they choose ----------------------------------------------------------------------------------------------

    def caller(self):
        user = self.random.choice(self.shop.users)
        # Every other call comes with a key, now and then with that of somebody else.
        owner = self.random.choice([user, user, user, self.shop.users[0]])
        return {"user_id": user.pk, "api_key_id": self.shop.keys[owner.pk] if self.random.random() < 0.5 else None}

    def amounts(self):
        wanted = {REQUESTS: 1, TOKENS: self.random.randint(0, 40), COST: self.random.randint(0, 9)}
        return {SECONDS: self.random.randint(0, 9)} if self.random.random() < 0.2 else wanted

    def hold(self, seconds=60, **options):
        return services.reserve(**self.caller(), amounts=self.amounts(), seconds=seconds, **options)

    def any_hold(self):
        """One that stays for others to end too, or one that does not."""
        if not (holds := list(self.shop.open_holds)):
            return None
        hold = self.random.choice(holds)
        if self.random.random() < 0.7:
            with suppress(ValueError):
                self.shop.open_holds.remove(hold)
        return hold

    def any_quota(self, *, any_period=True):
        quotas = Quota.objects.filter(api_key=None) if any_period else Quota.objects.exclude(period="none")
        found = list(quotas)
        return self.random.choice(found) if found else None


def kill_own_connection():
    ours = connection.settings_dict
    pid = connection.connection.info.backend_pid
    with psycopg.connect(host=ours["HOST"], port=ours["PORT"], user=ours["USER"], dbname=ours["NAME"]) as other:
        assert other.execute("SELECT pg_terminate_backend(%s, 10000)", [pid]).fetchone() == (True,)


def sums(field, **filters):
    """What reservations have under `field` for each quota."""
    found = Counter()
    for amounts in Reservation.objects.filter(**filters).exclude(**{field: None}).values_list(field, flat=True):
        found.update(amounts)
    return found


def forgotten():
    with connection.cursor() as cursor:
        cursor.execute("SELECT quota_id::text, sum(usage)::bigint FROM forgotten GROUP BY quota_id")
        return Counter(dict(cursor.fetchall()))


def granted():
    found = Counter()
    for target, metadata in AuditEvent.objects.filter(action="quota.granted").values_list("target_id", "metadata"):
        found[str(target)] += metadata["amount"]
    return found


@pytest.fixture
def shop(transactional_db):
    with connection.cursor() as cursor:
        cursor.execute(REMEMBER)
    yield Shop()
    with connection.cursor() as cursor:
        cursor.execute(FORGET)


@pytest.mark.drill
@pytest.mark.parametrize("seed", [11, 12])
def test_whatever_happens_at_once_adds_up(shop, seed):
    workers = [Worker(shop, f"{seed}.{number}") for number in range(THREADS)]
    with ThreadPoolExecutor(THREADS) as threads:
        done = sum((future.result() for future in [threads.submit(worker.run) for worker in workers]), Counter())

    assert Reservation.objects.filter(status="confirmed").count() == done["confirmed"] > 0
    assert Reservation.objects.filter(status="released").count() == done["released"] > 0
    assert Reservation.objects.filter(status="expired").exists()
    assert done["be_killed_with_a_hold"] > 0

    holds, charged, gone, grants = sums("holds", status="held"), sums("charged"), forgotten(), granted()
    for quota in Quota.objects.all():
        key = str(quota.pk)
        assert quota.held == holds[key]
        assert quota.current_usage + gone[key] == charged[key]
        assert quota.overage_allowed or quota.current_usage + quota.held <= quota.limit
        assert quota.limit >= quota.base_limit + quota.granted
        given = list(Grant.objects.filter(quota=quota))
        assert sum(grant.amount for grant in given) == grants[key]
        assert sum(grant.spent for grant in given) <= charged[key]
        assert sum(grant.remaining for grant in given if grant.closed_at is None) <= quota.granted
    assert sum(charged.values()) == sum(gone.values()) + sum(Quota.objects.values_list("current_usage", flat=True))

    services.sweep_expired(now=timezone.now() + timedelta(days=1))
    assert not Quota.objects.filter(held__gt=0).exists()
    assert not Reservation.objects.filter(status="held").exists()
