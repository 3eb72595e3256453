"""GET and PATCH users/me/preferences"""

import pytest

from accounts.models import UserPreference

PATH = "/api/v1/users/me/preferences"

pytestmark = pytest.mark.django_db


def patch(client, body):
    return client.patch(PATH, body, content_type="application/json")


def test_who_never_chose_gets_the_defaults_and_no_row(api, alice):
    found = api(alice).get(PATH).json()

    assert (found["language"], found["timezone"], found["theme"], found["settings"]) == ("en", "UTC", "system", {})
    assert not UserPreference.objects.exists()


def test_what_is_chosen_is_kept_and_the_rest_stays(api, alice, bob):
    assert patch(api(alice), {"language": "pt-BR", "settings": {"beta": True}}).status_code == 200
    assert patch(api(alice), {"theme": "dark", "preferred_model": "smollm2"}).status_code == 200

    found = api(alice).get(PATH).json()
    assert (found["language"], found["theme"], found["settings"]) == ("pt-BR", "dark", {"beta": True})
    assert found["preferred_model"] == api(alice).get("/api/v1/users/me").json()["preferred_model"] == "smollm2"
    assert api(bob).get(PATH).json()["theme"] == "system"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"timezone": "Mars/Olympus"}, "timezone"),
        ({"language": "not a tag"}, "language"),
        ({"theme": "pink"}, "theme"),
        ({"email_notifications": "perhaps"}, "email_notifications"),
        ({"settings": [1]}, "settings"),
        ({"settings": {"x": "y" * 20_000}}, "settings"),
        ({"preferred_model": "x" * 101}, "preferred_model"),
    ],
)
def test_nonsense_is_refused_and_nothing_changes(api, alice, body, param):
    answer = patch(api(alice), {"language": "de"} | body)

    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert not UserPreference.objects.exists()
