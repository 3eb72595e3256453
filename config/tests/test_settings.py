"""Values of the environment that make no sense stop the start with a sentence."""

import pytest
from django.core.exceptions import ImproperlyConfigured

from config.environment import checked_link, checked_stripe_key, checked_url


@pytest.mark.parametrize("value", ["", "https://example.com", "http://127.0.0.1:8000", "https://example.com/deep/path"])
def test_an_address_that_links_can_begin_with(value):
    assert checked_url("PUBLIC_URL", value) == value


@pytest.mark.parametrize(
    "value", ["example.com", "ftp://example.com", "https://", "https://example.com/", "https://a b", "https://a/?b=\n"]
)
def test_an_address_that_links_cannot_begin_with(value):
    with pytest.raises(ImproperlyConfigured, match=r"^PUBLIC_URL must be an address such as https://"):
        checked_url("PUBLIC_URL", value)


@pytest.mark.parametrize("value", ["", "https://example.com/a?token={token}", "https://example.com/#/a/{token}/b"])
def test_a_link_with_a_place_for_its_token(value):
    assert checked_link("VERIFY_EMAIL_URL", value) == value


@pytest.mark.parametrize(
    "value", ["https://example.com/a?token=", "example.com/{token}", "https://{token}", "https://example.com/ {token}"]
)
def test_a_link_without_a_place_for_its_token(value):
    with pytest.raises(ImproperlyConfigured, match=r"^VERIFY_EMAIL_URL must look like"):
        checked_link("VERIFY_EMAIL_URL", value)


@pytest.mark.parametrize(
    ("key", "secrets"), [("", []), ("", ["whsec_1"]), ("sk_live_1", ["whsec_1"]), ("rk_live_1", ["whsec_1", "whsec_2"])]
)
def test_a_key_of_stripe_with_what_belongs_to_it(key, secrets):
    assert checked_stripe_key(key, secrets) == key


@pytest.mark.parametrize(
    ("key", "secrets", "message"),
    [
        ("pk_live_1", ["whsec_1"], "must be a secret or a restricted key"),
        ("sk_live_1", [], "STRIPE_WEBHOOK_SECRET is missing"),
    ],
)
def test_a_key_of_stripe_that_would_not_do(key, secrets, message):
    with pytest.raises(ImproperlyConfigured, match=message):
        checked_stripe_key(key, secrets)
