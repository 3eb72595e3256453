"""The pages that links in mails lead to, in a real browser: both themes, no scripts, and no word to any other host."""

import shutil
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import sync_playwright
from pytest_django.live_server_helper import LiveServer

from accounts import recovery
from accounts.models import User

pytestmark = pytest.mark.browser

FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]
NEW_PASSWORD = "another horse, another battery"
GROUND = {"light": "rgb(249, 250, 251)", "dark": "rgb(17, 24, 39)"}


@pytest.fixture(scope="module")
def browser():
    with pytest.MonkeyPatch.context() as patch, sync_playwright() as playwright:
        # The browser's event loop runs in this thread; nothing is awaited while the database is asked.
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def server(django_db_setup):
    """Not the fixture `live_server`: that one empties the database after our seeds are sown again."""
    server = LiveServer("127.0.0.1")
    yield server
    server.stop()


@pytest.fixture(params=["light", "dark"])
def tab(request, browser, server, transactional_db):
    """A tab without scripts. What goes wrong in it, and each request that tells the token on, fails the test."""
    context = browser.new_context(
        base_url=server.url,
        viewport={"width": 390, "height": 760},
        color_scheme=request.param,
        java_script_enabled=False,
    )
    tab = context.new_page()
    tab.set_default_timeout(10_000)
    complaints: list[str] = []

    def look_at(sent):
        if urlsplit(sent.url).netloc != urlsplit(server.url).netloc:
            complaints.append(f"asked another host: {sent.url}")
        if "token" in sent.all_headers().get("referer", ""):
            complaints.append(f"told the token: {sent.url}")

    context.on("requestfinished", look_at)
    tab.on("console", lambda line: complaints.append(line.text) if "status of 400" not in line.text else None)
    yield tab
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == GROUND[request.param]
    assert tab.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    context.close()
    assert complaints == []


@pytest.mark.drill
def test_an_address_is_confirmed(tab, alice):
    link = recovery.verification_link(user_id=alice.pk)

    tab.goto(f"/verify-email?token={link.token}")
    assert not User.objects.get().is_verified
    tab.click("button")

    assert "alice@example.com is confirmed" in tab.inner_text("main")
    assert User.objects.get().is_verified


@pytest.mark.drill
def test_a_password_is_chosen(tab, alice):
    link = recovery.reset_link(email="alice@example.com")
    tab.goto(f"/reset-password?token={link.token}")

    tab.fill("#id_password", "short")
    tab.fill("#id_again", "other")
    tab.check("#id_revoke_api_keys")
    tab.click("button")
    assert "The two passwords differ." in tab.inner_text("main")
    tab.fill("#id_password", "short")
    tab.fill("#id_again", "short")
    tab.click("button")
    assert "too short" in tab.inner_text("main")
    tab.fill("#id_password", NEW_PASSWORD)
    tab.fill("#id_again", NEW_PASSWORD)
    tab.click("button")

    assert "Your password is changed" in tab.inner_text("main")
    assert User.objects.get().check_password(NEW_PASSWORD)


@pytest.mark.drill
def test_a_bad_link_says_what_to_do(tab):
    tab.goto("/reset-password?token=made-up")

    assert "Ask for a new mail where you sign in" in tab.inner_text("main")
