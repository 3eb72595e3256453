"""manage.py sweep_reservations"""

from datetime import timedelta

import pytest
from django.core.management import call_command
from django.utils import timezone

from inference.models import Request
from quotas import services
from quotas.meters import Meter
from quotas.models import Quota, Reservation
from quotas.tests.factories import QuotaFactory

TOKENS = Meter("llm", "tokens")


@pytest.mark.parametrize("options", [[], ["--dry-run"]])
def test_lost_calls_are_charged_with_what_they_sent_and_other_holds_let_go(alice, capsys, options):
    QuotaFactory(user=alice, unit="tokens", limit=100)
    call, hold = (services.reserve(user_id=alice.pk, amounts={TOKENS: 20}, seconds=60) for _ in range(2))
    Request.objects.create(
        user=alice, reservation_id=call.id, request_type="llm", model="m", status="running", input_tokens=7
    )
    running = services.reserve(user_id=alice.pk, amounts={TOKENS: 5}, seconds=60)
    Reservation.objects.exclude(pk=running.id).update(expires_at=timezone.now() - timedelta(seconds=1))

    call_command("sweep_reservations", *options)

    quota = Quota.objects.get()
    if options:
        assert "2 holds are over" in capsys.readouterr().out
        assert (quota.current_usage, quota.held) == (0, 45)
    else:
        assert "1 lost calls were ended, and 1 other holds let go" in capsys.readouterr().out
        assert (quota.current_usage, quota.held) == (7, 5)
        assert Reservation.objects.get(pk=hold.id).status == "expired"
