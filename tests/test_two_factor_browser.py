"""An operator signs in with two factors in a real browser, from the first set-up on."""

import re
from base64 import b32decode

import pytest
from django_otp.oath import TOTP

from accounts.models import RecoveryCode, TotpDevice
from accounts.tests.factories import PASSWORD
from tests.browser import enter_password

pytestmark = pytest.mark.browser


def code_of(secret, steps=0):
    return f"{TOTP(b32decode(secret), drift=steps).token():06d}"


def give_code(tab, code, form="code-form"):
    tab.fill(f"#{form} input[name$=code]", code)
    tab.click(f"#{form} button[type=submit]")


def set_up(tab):
    """Read the secret from the page as a person would; the secret and the recovery codes."""
    assert tab.locator("#qr-code svg path").bounding_box()["width"] > 150
    secret = tab.inner_text("#secret")
    # The step before this one, so that the code of this one is left for signing in.
    give_code(tab, code_of(secret, steps=-1), "set-up-form")
    codes = tab.locator("#recovery-codes li")
    codes.first.wait_for()
    return secret, codes.all_inner_texts()


@pytest.mark.drill
def test_from_the_first_set_up_to_the_last_recovery_code(visitor, olga, settings):
    settings.REQUIRE_OPERATOR_2FA = True
    enter_password(visitor)
    visitor.wait_for_url("**/two-factor/set-up/")
    visitor.goto("/admin/accounts/user/")
    visitor.wait_for_url("**/two-factor/set-up/")

    secret, codes = set_up(visitor)
    assert len(codes) == 10
    visitor.reload()
    assert visitor.url.endswith("/admin/two-factor/")
    assert codes[0] not in visitor.content()
    assert visitor.locator("#off-form").count() == 0

    visitor.click(".min-h-\\[64px\\]")
    visitor.click("#logout-form button")
    visitor.wait_for_selector("text=Thanks for spending")
    enter_password(visitor)
    visitor.wait_for_url("**/login/code/")
    give_code(visitor, "000 000" if code_of(secret) != "000000" else "111 111")
    visitor.wait_for_selector("text=The code is wrong, or was used before.")
    code = code_of(secret)
    give_code(visitor, f"{code[:3]} {code[3:]}")
    visitor.wait_for_url(re.compile("/admin/$"))

    visitor.context.clear_cookies()
    enter_password(visitor)
    visitor.wait_for_url("**/login/code/")
    give_code(visitor, codes[0])
    visitor.wait_for_selector("text=That recovery code is used up. You have 9 left.")
    assert RecoveryCode.objects.filter(used_at=None).count() == 9


@pytest.mark.drill
def test_by_choice_and_off_again(tab, olga):
    tab.click(".min-h-\\[64px\\]")
    tab.click("nav >> text=Two-factor sign-in")
    tab.click("text=Set up")
    secret, codes = set_up(tab)
    tab.click("text=I have kept them")
    tab.wait_for_url(re.compile("/admin/$"))

    tab.goto("/admin/two-factor/")
    give_code(tab, code_of(secret), "codes-form")
    new = tab.locator("#recovery-codes li")
    new.first.wait_for()
    assert not set(new.all_inner_texts()) & set(codes)

    recovery_code = new.all_inner_texts()[0]
    tab.goto("/admin/two-factor/")
    tab.fill("#off-form input[name$=password]", PASSWORD)
    give_code(tab, recovery_code, "off-form")
    tab.wait_for_selector("text=Two-factor sign-in is off.")
    assert not TotpDevice.objects.exists()
