"""A chat call that names no model asks the one that its caller prefers."""

import pytest

from accounts import services as accounts
from accounts.credentials import caller_for_key
from accounts.exceptions import InvalidInput
from accounts.tests.credentials import api_key
from conversations import services
from inference.exceptions import ModelNotFound
from inference.models import Model, Provider, Request

HELLO = {"messages": [{"role": "user", "content": "Hello"}]}

pytestmark = pytest.mark.django_db


@pytest.fixture
def caller(alice, django_capture_on_commit_callbacks):
    provider = Provider.objects.create(name="p", base_url="http://127.0.0.1:9/v1")
    for name in ("first", "second"):
        Model.objects.create(name=name, upstream_name=name, provider=provider)

    def preferring(model):
        with django_capture_on_commit_callbacks(execute=True):
            accounts.update_preferences(user_id=alice.pk, by=alice, preferred_model=model)
        return caller_for_key(api_key(alice))

    return preferring


def test_the_preferred_model_is_asked(caller):
    turn = services.open_chat(caller=caller("second"), payload=HELLO)

    assert turn.call.payload["model"] == "second"
    assert Request.objects.get().model == "second"


def test_a_model_that_is_named_goes_first(caller):
    assert services.open_chat(caller=caller("second"), payload=HELLO | {"model": "first"}).call.model == "first"


def test_without_a_preference_a_model_must_be_named(caller):
    with pytest.raises(InvalidInput) as refusal:
        services.open_chat(caller=caller(""), payload=HELLO)

    assert refusal.value.param == "model"


def test_a_preferred_model_that_is_gone_is_not_found(caller):
    with pytest.raises(ModelNotFound):
        services.open_chat(caller=caller("gone"), payload=HELLO)
