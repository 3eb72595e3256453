"""Operators stay signed in while Redis is away."""

import pytest
from django.conf import settings


@pytest.mark.django_db
@pytest.mark.usefixtures("redis_away")
def test_a_session_that_cannot_be_read_keeps_its_cookie(client):
    client.raise_request_exception = False
    client.cookies[settings.SESSION_COOKIE_NAME] = "a" * 32

    answer = client.get("/admin/")

    assert answer.status_code == 503
    assert settings.SESSION_COOKIE_NAME not in answer.cookies
