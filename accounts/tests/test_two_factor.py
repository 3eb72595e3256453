"""The second factor as a service: codes of an app, recovery codes, and how guessing is slowed down."""

from datetime import UTC, datetime, timedelta
from threading import Barrier, Thread
from urllib.parse import parse_qs, urlsplit

import pytest
import time_machine
from django.core.management import CommandError, call_command
from django.db import connection
from django_otp.oath import TOTP

from accounts import two_factor
from accounts.exceptions import Conflict, InvalidInput, NotAuthenticated, TooManyAttempts
from accounts.models import AuditEvent, RecoveryCode, TotpDevice, User
from accounts.two_factor import Proof

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)

pytestmark = pytest.mark.django_db


def code_of(device, at=None, steps=0):
    """What the app shows, `steps` of 30 seconds away from now."""
    totp = TOTP(bytes.fromhex(device.secret), drift=steps)
    if at is not None:
        totp.time = at.timestamp()
    return f"{totp.token():06d}"


def wrong_code(device):
    return f"{(int(code_of(device)) + 500_000) % 1_000_000:06d}"


def set_up(user):
    """The user's app and their recovery codes. The code that confirmed it is that of half an hour ago."""
    device = two_factor.begin_setup(user=user)
    with time_machine.travel(datetime.now(UTC) - timedelta(minutes=30), tick=False):
        codes = two_factor.confirm_setup(user=user, code=code_of(device), by=user)
    return TotpDevice.objects.get(user=user), codes


def events(action):
    return list(AuditEvent.objects.filter(action=f"two_factor.{action}"))


@pytest.fixture
def noon():
    with time_machine.travel(NOON, tick=False) as clock:
        yield clock


@pytest.fixture
def device(alice, noon):
    return set_up(alice)[0]


# Setting up -----------------------------------------------------------------------------------------------------------


def test_an_app_is_of_no_use_until_a_code_confirms_it(alice, noon):
    device = two_factor.begin_setup(user=alice)
    alice.refresh_from_db()

    assert two_factor.confirmed_device(alice) is None
    with pytest.raises(NotAuthenticated):
        two_factor.verify(user=alice, code=code_of(device))
    with pytest.raises(InvalidInput):
        two_factor.confirm_setup(user=alice, code=wrong_code(device), by=alice)

    codes = two_factor.confirm_setup(user=alice, code=code_of(device), by=alice)

    alice.refresh_from_db()
    assert two_factor.confirmed_device(alice) == device
    assert len(set(codes)) == 10
    (event,) = events("enabled")
    assert (event.actor_id, event.target_id, event.metadata) == (alice.pk, str(alice.pk), {})


def test_the_code_that_confirmed_it_does_not_sign_in(alice, noon):
    device = two_factor.begin_setup(user=alice)
    code = code_of(device)
    two_factor.confirm_setup(user=alice, code=code, by=alice)

    with pytest.raises(NotAuthenticated):
        two_factor.verify(user=alice, code=code)


def test_beginning_again_makes_another_secret(alice, noon):
    first = two_factor.begin_setup(user=alice)
    second = two_factor.begin_setup(user=alice)

    assert first.secret != second.secret
    with pytest.raises(InvalidInput):
        two_factor.confirm_setup(user=alice, code=code_of(first), by=alice)
    assert two_factor.confirm_setup(user=alice, code=code_of(second), by=alice)


def test_a_confirmed_app_is_not_replaced(alice, device):
    with pytest.raises(Conflict):
        two_factor.begin_setup(user=alice)
    with pytest.raises(Conflict):
        two_factor.confirm_setup(user=alice, code=code_of(device), by=alice)
    assert TotpDevice.objects.get().secret == device.secret


def test_the_qr_code_says_what_apps_expect(alice, noon):
    device = two_factor.begin_setup(user=alice)

    uri = urlsplit(two_factor.provisioning_uri(device=device))

    assert (uri.scheme, uri.netloc, uri.path) == ("otpauth", "totp", "/Mainstay:alice%40example.com")
    parameters = {name: value for name, (value,) in parse_qs(uri.query).items()}
    secret = parameters.pop("secret")
    assert parameters == {"issuer": "Mainstay", "algorithm": "SHA1", "digits": "6", "period": "30"}
    assert len(secret) == 32
    assert secret == two_factor.typed_secret(device=device)


def test_no_secret_and_no_recovery_code_is_readable_in_the_database(alice, noon):
    device, codes = set_up(alice)

    with connection.cursor() as cursor:
        cursor.execute("SELECT secret FROM accounts_totpdevice UNION ALL SELECT code_hash FROM accounts_recoverycode")
        kept = " ".join(value for (value,) in cursor.fetchall())
    assert device.secret not in kept
    assert not [code for code in codes if code in kept or code.replace("-", "") in kept]


# Verifying ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [-1, 0, 1])
def test_a_clock_may_be_half_a_minute_off(alice, device, steps):
    assert two_factor.verify(user=alice, code=code_of(device, steps=steps)) is Proof.APP


@pytest.mark.parametrize("steps", [-3, -2, 2, 3])
def test_and_no_more(alice, device, steps):
    with pytest.raises(NotAuthenticated):
        two_factor.verify(user=alice, code=code_of(device, steps=steps))


def test_a_code_is_taken_once_and_none_before_it_afterwards(alice, device):
    two_factor.verify(user=alice, code=code_of(device))

    for steps in (0, -1):
        with pytest.raises(NotAuthenticated):
            two_factor.verify(user=alice, code=code_of(device, steps=steps))
    assert two_factor.verify(user=alice, code=code_of(device, steps=1)) is Proof.APP


def test_spaces_do_not_matter(alice, device):
    code = code_of(device)

    assert two_factor.verify(user=alice, code=f" {code[:3]}\u00a0{code[3:]} ") is Proof.APP


def test_what_is_no_code_is_refused(alice, device):
    code = code_of(device)
    digits = {"arabic": 0x660, "fullwidth": 0xFF10, "superscript": 0x2070}
    foreign = ["".join(chr(zero + int(digit)) for digit in code) for zero in digits.values()]

    for given in ("", " ", code[:5], code + "0", f"-{code}", f"{code}.0", "abcdef", "0x" + code, "\0" * 6, *foreign):
        TotpDevice.objects.update(failures=0)
        with pytest.raises(NotAuthenticated):
            two_factor.verify(user=alice, code=given)


def test_nobody_elses_code_is_taken(alice, bob, device):
    with pytest.raises(NotAuthenticated):
        two_factor.verify(user=bob, code=code_of(device))


def test_a_recovery_code_signs_in_once(alice, noon):
    _device, codes = set_up(alice)

    assert two_factor.verify(user=alice, code=codes[3], ip="192.0.2.1", user_agent="x") is Proof.RECOVERY_CODE
    with pytest.raises(NotAuthenticated):
        two_factor.verify(user=alice, code=codes[3])

    assert two_factor.codes_left(alice) == 9
    (event,) = events("recovery_code_used")
    assert (event.metadata, event.ip, event.user_agent) == ({"left": 9}, "192.0.2.1", "x")


def test_a_recovery_code_may_be_typed_as_it_is_read(alice, noon):
    _device, codes = set_up(alice)

    assert two_factor.verify(user=alice, code=codes[0].replace("-", " ").upper()) is Proof.RECOVERY_CODE
    misread = codes[1].replace("0", "O").replace("1", "l")
    assert two_factor.verify(user=alice, code=misread) is Proof.RECOVERY_CODE


def test_new_recovery_codes_replace_the_old_ones(alice, noon):
    _device, old = set_up(alice)

    new = two_factor.new_recovery_codes(user=alice, by=alice)

    assert not set(old) & set(new)
    with pytest.raises(NotAuthenticated):
        two_factor.verify(user=alice, code=old[0])
    assert two_factor.verify(user=alice, code=new[0]) is Proof.RECOVERY_CODE
    assert events("recovery_codes_made")[0].metadata == {"count": 10}


def test_switching_off_deletes_everything_and_something_else_can_be_set_up(alice, olga, device):
    two_factor.disable(user=alice, by=olga)

    assert not TotpDevice.objects.exists()
    assert not RecoveryCode.objects.exists()
    (event,) = events("disabled")
    assert (event.actor_id, event.target_id) == (olga.pk, str(alice.pk))
    with pytest.raises(Conflict):
        two_factor.disable(user=alice, by=olga)
    with pytest.raises(Conflict):
        two_factor.new_recovery_codes(user=alice, by=olga)
    assert set_up(alice)[0].pk != device.pk


# Guessing -------------------------------------------------------------------------------------------------------------


def refuse(user, device):
    with pytest.raises(NotAuthenticated):
        two_factor.verify(user=user, code=wrong_code(device))


def wait_of(user, code):
    with pytest.raises(TooManyAttempts) as refusal:
        two_factor.verify(user=user, code=code)
    return refusal.value.retry_after


def test_after_five_wrong_codes_each_costs_a_longer_wait(alice, device, noon):
    for _ in range(5):
        refuse(alice, device)

    waits = []
    for _ in range(8):
        waits.append(wait_of(alice, code_of(device)))
        noon.shift(waits[-1] - 1)
        assert wait_of(alice, code_of(device)) == 1
        noon.shift(1)
        refuse(alice, device)

    assert waits == [30, 60, 120, 240, 480, 900, 900, 900]
    assert len(events("code_refused")) == 13
    noon.shift(900)
    assert two_factor.verify(user=alice, code=code_of(device)) is Proof.APP
    refuse(alice, device)
    assert TotpDevice.objects.get().failures == 1


def test_recovery_codes_are_guessed_no_faster(alice, noon):
    device, codes = set_up(alice)
    for _ in range(5):
        refuse(alice, device)

    assert wait_of(alice, codes[0]) == 30
    noon.shift(30)
    assert two_factor.verify(user=alice, code=codes[0]) is Proof.RECOVERY_CODE


def test_a_refusal_is_audited_without_what_was_typed(alice, device):
    with pytest.raises(NotAuthenticated):
        two_factor.verify(user=alice, code="123 456 nonsense", ip="192.0.2.1", user_agent="x")

    (event,) = events("code_refused")
    assert (event.status, event.target_id, event.metadata) == ("failure", str(alice.pk), {})
    assert (event.ip, event.user_agent) == ("192.0.2.1", "x")


# At the same time -----------------------------------------------------------------------------------------------------


def at_once(count, call):
    """The results of `count` calls that begin together, exceptions among them."""
    barrier, results = Barrier(count), []

    def run():
        barrier.wait()
        try:
            results.append(call())
        except (NotAuthenticated, TooManyAttempts, Conflict) as refusal:
            results.append(type(refusal))
        finally:
            connection.close()

    threads = [Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.mark.django_db(transaction=True)
def test_one_of_many_who_use_the_same_code_is_let_in(alice):
    device, codes = set_up(alice)
    for code, proof in ((code_of(device), Proof.APP), (codes[0], Proof.RECOVERY_CODE)):
        assert at_once(5, lambda code=code: two_factor.verify(user=alice, code=code)).count(proof) == 1
        TotpDevice.objects.update(failures=0)


@pytest.mark.django_db(transaction=True)
def test_guessing_at_the_same_time_gains_nothing(alice):
    device, _codes = set_up(alice)

    results = at_once(12, lambda: two_factor.verify(user=alice, code=wrong_code(device)))

    assert results.count(NotAuthenticated) == 5
    assert results.count(TooManyAttempts) == 7


@pytest.mark.django_db(transaction=True)
def test_renewing_twice_at_the_same_time_leaves_ten_codes(alice):
    set_up(alice)

    results = at_once(4, lambda: two_factor.new_recovery_codes(user=alice, by=alice))

    assert all(len(codes) == 10 for codes in results)
    assert two_factor.codes_left(alice) == 10


# By hand on the server ------------------------------------------------------------------------------------------------


def test_the_command_lets_somebody_in_who_has_lost_everything(alice, device, capsys):
    call_command("reset_two_factor", "ALICE@example.com")

    assert two_factor.confirmed_device(User.objects.get(pk=alice.pk)) is None
    (event,) = events("disabled")
    assert (event.actor_id, event.target_id) == (None, str(alice.pk))


@pytest.mark.parametrize("email", ["nobody@example.com", "alice@example.com"])
def test_the_command_says_what_is_wrong(alice, email):
    with pytest.raises(CommandError):
        call_command("reset_two_factor", email)
