"""A real browser, as tests use it: without a word to any other host, and with eyes for what goes wrong in it."""

from __future__ import annotations

from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page, Request

from accounts.tests.factories import PASSWORD

FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]


def open_tab(browser: Browser, url: str, complaints: list[str]) -> Page:
    """A tab in a browser profile of its own. Errors, refusals and calls to other hosts end up in `complaints`."""
    context = browser.new_context(base_url=url, viewport={"width": 1440, "height": 900})
    tab = context.new_page()
    tab.set_default_timeout(10_000)

    def look_at(request: Request) -> None:
        asked = urlsplit(request.url)
        if asked.scheme in {"http", "https", "ws"} and asked.netloc != urlsplit(url).netloc:
            complaints.append(f"asked another host: {request.url}")

    context.on("request", look_at)
    context.on("response", lambda r: complaints.append(f"{r.status} {r.url}") if r.status >= 400 else None)
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("console", lambda line: complaints.append(line.text) if line.type in {"error", "warning"} else None)
    return tab


def enter_password(tab: Page, email: str = "Olga@example.com", password: str = PASSWORD) -> None:
    tab.goto("/admin/")
    tab.fill("#id_username", email)
    tab.fill("#id_password", password)
    tab.click("#login-form button[type=submit]")
