"""The admin in a real browser: in both themes, without errors, and without a word to any other host."""

import json
from urllib.parse import urlsplit

import pytest

from accounts.audit import record
from accounts.credentials import caller_for_key
from accounts.models import ApiKey, AuditEvent
from analytics.services import roll_up
from inference.models import Price
from quotas.models import Quota
from tests.admin import page as address
from tests.test_admin_pages import ROWS

pytestmark = pytest.mark.browser

# Relative luminance of the page's ground, and the contrast of its title to it (WCAG 2).
COLOURS = """() => {
    const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
    const luminance = (colour) => {
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map((byte) => {
            const part = byte / 255;
            return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ground = luminance(getComputedStyle(document.querySelector('#main')).backgroundColor);
    const text = luminance(getComputedStyle(document.querySelector('h1')).color);
    return [ground, (Math.max(ground, text) + 0.05) / (Math.min(ground, text) + 0.05)];
}"""


@pytest.mark.drill
def test_every_list_opens_in_both_themes(tab):
    rows = {model: make() for model, make in ROWS.items()}
    roll_up()

    for where in ["/admin/", *(address(model, "changelist") for model in rows)]:
        tab.goto(where)
        for theme in ("light", "dark"):
            tab.evaluate(f"Alpine.$data(document.documentElement).switchTheme('{theme}')")
            tab.wait_for_selector(f"html.{theme}", state="attached")
            ground, contrast = tab.evaluate(COLOURS)
            assert ground > 0.8 if theme == "light" else ground < 0.05, (where, theme)
            assert contrast > 7, (where, theme)
        assert tab.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), where


@pytest.mark.drill
def test_a_key_is_made_and_its_secret_is_seen_once(tab, alice):
    tab.goto(address(ApiKey, "add"))
    tab.click(".select2-selection")
    tab.keyboard.type("alic")
    tab.click(".select2-results__option:has-text('alice@example.com')")
    tab.fill("#id_name", "Laptop")
    tab.click("button[name=_save]")

    secret = tab.input_value("#new-key")
    assert caller_for_key(secret).user_id == alice.pk
    tab.click("#copy-key")
    tab.wait_for_selector("#copy-key:has-text('Copied')")
    assert tab.evaluate("getSelection().toString()") == secret

    tab.reload()
    key = ApiKey.objects.get()
    assert urlsplit(tab.url).path == address(key)
    assert key.prefix in tab.content()
    assert secret not in tab.content()
    tab.go_back()
    assert secret not in tab.content()
    assert ApiKey.objects.count() == 1


def test_a_limit_is_changed_in_a_dialog(tab):
    quota = ROWS[Quota]()
    tab.goto(address(Quota, "changelist") + "?period__exact=month")
    tab.click("td.field-actions_holder span")
    tab.click("nav:visible >> text=Change limit")

    tab.fill("#dialog input[name=limit]", "777")
    tab.click("#dialog button[type=submit]")
    tab.wait_for_selector("#dialog >> text=This field is required.")
    tab.fill("#dialog input[name=reason]", "Agreement")
    tab.click("#dialog button[type=submit]")

    tab.wait_for_selector("text=is limited to 777")
    assert tab.url.endswith("?period__exact=month")
    quota.refresh_from_db()
    assert quota.limit == 777
    assert AuditEvent.objects.get(action="quota.limit_changed").metadata["reason"] == "Agreement"


@pytest.mark.drill
@pytest.mark.parametrize("width", [1440, 390])
def test_the_page_of_a_user_has_room_for_all_that_can_be_done(tab, alice, width):
    tab.set_viewport_size({"width": width, "height": 800})
    tab.goto(address(alice))
    assert tab.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")

    if width == 390:
        tab.click("a:has-text('more_horiz')")
    tab.click("li > a:has-text('Sign-in')")
    tab.click("nav:visible >> text=Sign out everywhere")
    tab.click("#dialog button[type=submit]")

    tab.wait_for_selector("text=alice@example.com is signed out everywhere.")
    assert AuditEvent.objects.filter(action="user.signed_out_everywhere").count() == 1


@pytest.mark.drill
def test_the_audit_log_is_downloaded_as_the_list_shows_it(tab, alice, bob):
    record("thing.done", by=alice)
    record("thing.done", by=bob)
    tab.goto(address(AuditEvent, "changelist") + "?q=alice")

    with tab.expect_download() as download:
        tab.click("text=Export JSON")

    assert [event["actor_email"] for event in json.loads(download.value.path().read_text())] == ["alice@example.com"]


@pytest.mark.drill
def test_a_list_is_taken_away_and_brought_back(tab):
    ROWS[Price]()
    tab.goto(address(Price, "changelist"))
    with tab.expect_download() as download:
        tab.click("a:has-text('Export')")
    head, row = download.value.path().read_text().splitlines()
    name = row.split(",")[0]

    tab.click("a:has-text('Import')")
    content = f"{head}\n{name},0,seconds,100,2035-01-01\n".encode()
    tab.set_input_files("input[type=file]", files=[{"name": "prices.csv", "mimeType": "text/csv", "buffer": content}])
    tab.click("button[type=submit]:has-text('Submit')")
    tab.click("button:has-text('Confirm import')")

    tab.wait_for_selector("text=Imported: 1 new, 0 changed, 0 as they were.")
    assert Price.objects.get(unit="seconds").price == 100_000_000


@pytest.mark.drill
def test_a_phone_shows_lists_without_scrolling_sideways(tab):
    ROWS[Quota]()
    tab.set_viewport_size({"width": 390, "height": 800})

    for where in ("/admin/", address(Quota, "changelist"), address(ApiKey, "add")):
        tab.goto(where)
        assert tab.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), where
