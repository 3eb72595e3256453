"""The Content-Security-Policy of the pages: what it says, and that no page asks for more than it allows."""

import pytest
from django.urls import reverse
from django.utils import timezone

from accounts.models import ApiKey, User
from analytics.models import DailyStat
from config import content_security
from inference.models import Model
from quotas.models import Plan
from tests.admin import page
from tests.test_admin_pages import ROWS

STRICT = {
    "default-src": "'self'",
    "style-src": "'self'",
    "object-src": "'none'",
    "base-uri": "'self'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
}
ADMIN = STRICT | {
    "script-src": "'self' 'unsafe-eval'",
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data:",
}


def policy(answer):
    return dict(part.split(" ", 1) for part in answer["Content-Security-Policy"].split("; "))


@pytest.mark.django_db
@pytest.mark.parametrize(
    "path", ["/", "/admin", "/nothing", "/administrator", "/api/schema", "/static/config/admin.css"]
)
def test_pages_load_and_run_only_what_is_ours(api, path):
    found = policy(api().get(path))

    assert found | {"style-src": found["style-src"].split(" 'nonce-")[0]} == STRICT


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/admin/", "/admin/login/", "/admin/nowhere/"])
def test_only_the_admin_may_make_code_of_text_and_write_styles(api, path):
    assert policy(api().get(path)) == ADMIN


@pytest.mark.django_db
def test_the_pages_of_the_api_get_images_in_addresses_and_nothing_else(api):
    assert policy(api().get("/api/docs")) == STRICT | {"img-src": "'self' data:"}


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/api/v1/plans", "/api/v1/nothing", "/v1/nothing", "/healthz"])
def test_answers_for_programs_carry_no_policy(api, path):
    assert "Content-Security-Policy" not in api().get(path)


@pytest.mark.django_db
def test_the_styles_of_an_error_page_carry_the_number_of_their_answer(api):
    first, second = api().get("/administrator"), api().get("/administrator")

    for answer in (first, second):
        nonce = policy(answer)["style-src"].split("'nonce-")[1].rstrip("'")
        assert f'<style nonce="{nonce}">' in answer.content.decode()
    assert policy(first) != policy(second)


# In a real browser, which says in its console what it has refused -----------------------------------------------------


@pytest.mark.browser
@pytest.mark.drill
def test_no_list_and_no_row_of_the_admin_asks_for_more(tab):
    for model, make in ROWS.items():
        row = make()
        tab.goto(page(row))
        tab.goto(page(model, "changelist"))


@pytest.mark.browser
@pytest.mark.drill
@pytest.mark.parametrize("model", [User, ApiKey, Plan, Model])
def test_no_form_of_the_admin_asks_for_more(tab, model):
    tab.goto(page(model, "add"))

    tab.click("button[name=_save]")

    tab.wait_for_load_state()


@pytest.mark.browser
@pytest.mark.drill
def test_what_moves_on_a_page_asks_for_no_more(tab, alice):
    DailyStat.objects.create(day=timezone.now().date(), request_type="llm", model="m", requests=3, errors=1)
    tab.goto("/admin/")
    tab.wait_for_selector("canvas")
    tab.click("#nav-filter")
    tab.keyboard.type("plan")
    tab.wait_for_selector("#search-results >> text=Plans")
    tab.evaluate("window.dispatchEvent(new Event('opencommand'))")
    tab.click("#search-input-command")
    tab.keyboard.type("plan")
    tab.wait_for_selector("#command-results >> text=Plans")

    tab.goto(page(User, "changelist"))
    tab.click("#action-toggle")
    tab.wait_for_selector("select[name=action]:visible")
    tab.goto(page(alice))
    tab.click("li > a:has-text('Sign-in')")
    tab.click("nav a[hx-get$='/change_password/']")
    tab.wait_for_selector("#dialog input[name=password]")


@pytest.mark.browser
@pytest.mark.drill
def test_the_pages_for_everybody_ask_for_no_more(visitor, complaints):
    visitor.goto("/api/docs")
    visitor.click(".opblock >> nth=0")
    visitor.wait_for_selector(".opblock-body")
    assert complaints == []

    with visitor.expect_console_message(lambda line: "404" in line.text):
        visitor.goto("/administrator")
    assert visitor.evaluate("getComputedStyle(document.body).display") == "grid"
    visitor.wait_for_timeout(200)
    assert [line for line in complaints if "404" not in line] == []
    complaints.clear()


@pytest.mark.browser
@pytest.mark.drill
@pytest.mark.parametrize("directive", ["script-src", "style-src"])
def test_the_admin_needs_what_it_gets(tab, complaints, monkeypatch, directive):
    exception = {name: value for name, value in content_security.EXCEPTIONS["/admin/"].items() if name != directive}
    monkeypatch.setitem(content_security.EXCEPTIONS, "/admin/", exception)

    tab.goto(reverse("admin:index"))

    tab.wait_for_timeout(300)
    assert any("Content Security Policy" in line for line in complaints)
    complaints.clear()
