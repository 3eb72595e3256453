"""A template's way in a real browser: made, written, tried, compared, and a run taken back."""

import pytest

from accounts.models import AuditEvent
from inference.models import Request
from prompts.models import PromptTemplate
from quotas.models import Quota
from quotas.tests.factories import QuotaFactory
from tests.admin import page
from tests.browser import open_tab

pytestmark = [pytest.mark.browser, pytest.mark.drill]

NO_OVERFLOW = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"


@pytest.fixture
def tab(web, browser, olga, client, settings, complaints):
    """On a server that streams. Its processes hash passwords as they should, so olga comes with a session."""
    QuotaFactory(user=olga, unit="requests", limit=100)
    QuotaFactory(user=olga, unit="tokens", limit=5_000)
    client.force_login(olga)
    tab = open_tab(browser, web.url, complaints)
    cookie = client.cookies[settings.SESSION_COOKIE_NAME]
    tab.context.add_cookies([{"name": cookie.key, "value": cookie.value, "url": web.url}])
    yield tab
    tab.context.close()


def test_a_template_is_made_written_tried_and_compared(tab, complaints):
    tab.goto(page(PromptTemplate, "add"))
    tab.fill("#id_name", "greeting")
    tab.click("button[name=_save]")

    # The first version: what is wrong is seen at once, and said at its place when it is sent.
    tab.wait_for_url("**/new_version/")
    tab.fill("[name=text]", "Greet {{ who.name }}.")
    tab.wait_for_selector("#preview >> text=line 1, column 7")
    tab.click("text=Make the version")
    tab.wait_for_selector(".version-error >> text=line 1, column 7")
    tab.fill("[name=text]", "Greet {{ who }}.")
    tab.wait_for_selector("#preview >> text=Greet {{ who }}.")
    tab.fill("[name=commit_message]", "Begin")
    tab.click("text=Make the version")
    tab.wait_for_selector("text=Version 1 is made.")

    # The second, as messages, with a variable that must be a number; where one is declared, the other is, too.
    template = PromptTemplate.objects.get()
    tab.goto(page(template, "new_version"))
    tab.check("[name=kind][value=messages]")
    tab.fill("[name=content]", "Greet {{ who }} {{ times }} times.")
    tab.click("text=Add a variable")
    tab.locator(".version-variable >> nth=-1").locator("[name=variable_name]").fill("who")
    tab.click("text=Add a variable")
    row = tab.locator(".version-variable >> nth=-1")
    row.locator("[name=variable_name]").fill("times")
    row.locator("[name=variable_type]").select_option("integer")
    row.locator("[name=variable_default]").fill("2")
    tab.wait_for_selector("#preview >> text=Greet {{ who }} 2 times.")
    tab.click("text=Make the version")
    tab.wait_for_selector("text=Version 2 is made.")
    assert [version.number for version in template.versions.order_by("number")] == [1, 2]

    # Tried: what is missing is asked for at its field, and the preview follows what is typed.
    tab.click("text=Run both in the playground")
    tab.wait_for_url("**compare=on**")
    for side in "ab":
        tab.select_option(f"[name=model_{side}]", "instant")
    tab.click("#run")
    tab.wait_for_selector("[data-error='variables.who'] >> text=who must have a value.")
    assert [line for line in complaints if "400" not in line] == []
    complaints.clear()
    tab.fill("[name=variable-who]", "Ada")
    tab.fill("[name=variable-times]", "many")
    tab.wait_for_selector("[data-error='variables.times'] >> text=times must be a whole number.")
    tab.fill("[name=variable-times]", "3")
    tab.wait_for_selector("#prompt-b >> text=Greet Ada 3 times.")
    assert '+variable {"name": "times"' in tab.inner_text("#changes pre")

    # Both run together, and their figures stand beside each other.
    tab.click("#run")
    tab.wait_for_selector(".playground-figures")
    for side in "ab":
        assert "The quick brown fox" in tab.inner_text(f"#answer-{side}")
    assert set(Request.objects.values_list("prompt_version_id", "status")) == {
        (version.pk, "success") for version in template.versions.all()
    }
    assert "same" in tab.inner_text(".playground-figures")
    tab.set_viewport_size({"width": 390, "height": 800})
    assert tab.evaluate(NO_OVERFLOW)


def test_a_run_is_cancelled_fails_or_has_no_quota_left(tab, complaints, olga):
    tab.goto(page(PromptTemplate, "add"))
    tab.fill("#id_name", "greeting")
    tab.click("button[name=_save]")
    tab.fill("[name=text]", "Hello")
    tab.click("text=Make the version")
    tab.wait_for_selector("text=Version 1 is made.")
    tab.goto(page(PromptTemplate.objects.get(), "try_out"))

    tab.select_option("[name=model_a]", "hang-midstream")
    tab.click("#run")
    tab.wait_for_selector("#answer-a >> text=The quick brown")
    tab.click("#cancel")
    tab.wait_for_selector("#answer-a >> text=cancelled")
    tab.wait_for_selector(".playground-figures:not([data-running]) >> text=Cancelled")
    assert not Quota.objects.filter(user=olga, held__gt=0).exists()

    tab.select_option("[name=model_a]", "error-500")
    tab.click("#run")
    tab.wait_for_selector("#answer-a [role=alert] >> text=The model server of error-500 answered 500.")
    tab.fill("[name=max_tokens]", "90000")
    tab.click("#run")
    tab.wait_for_selector("#answer-a [role=alert] >> text=quota")
    tab.wait_for_selector("#run:visible")
    assert AuditEvent.objects.filter(action="prompt_template.run", actor_id=olga.pk).count() == 2
    assert [line for line in complaints if "502" not in line and "429" not in line] == []
    complaints.clear()
