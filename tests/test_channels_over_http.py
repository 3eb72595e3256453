"""Messages from channels and live events on the real web server: many at once, and who leaves."""

import time
from concurrent.futures import ThreadPoolExecutor

from accounts.tests.credentials import api_key
from conversations import channels, live
from conversations.models import ChannelConfig, Conversation, Message


def test_ten_deliveries_at_once_have_one_answer(web, olga, stub):
    ChannelConfig.objects.filter(name="telegram").update(default_model="paced-5")
    channels.drop_channels()
    update = {"content": "Hello", "client_message_id": "update-7", "new": True}

    with web.client(api_key(olga, scopes=["act-as", "inference"])) as client, ThreadPoolExecutor(10) as pool:
        client.headers["X-On-Behalf-Of"] = "telegram:7"

        def deliver(_number):
            return client.post("/api/v1/channels/telegram/messages", json=update)

        answers = list(pool.map(deliver, range(10)))
        last = deliver(0)

    assert {answer.status_code for answer in answers} <= {200, 409}
    assert {answer.json()["error"]["code"] for answer in answers if answer.status_code == 409} <= {"reply_in_progress"}
    assert all(answer.headers["Retry-After"] == "1" for answer in answers if answer.status_code == 409)
    assert (last.status_code, last.json()["message_id"]) == (200, str(Message.objects.get(role="assistant").pk))
    assert (Conversation.objects.count(), Message.objects.count(), len(stub.requests)) == (1, 2, 1)


def test_listeners_who_leave_are_let_go(web, account):
    path = "/api/v1/conversations/events"
    with web.client(account.key) as client:
        with client.stream("GET", path) as listening:
            lines = listening.iter_lines()
            assert next(lines) == "retry: 2000"
            assert live.listeners(account.user.pk) == 1
            client.post("/api/v1/conversations", json={})
            assert next(line for line in lines if line.startswith("event")) == "event: conversation.created"
        ends = time.monotonic() + 5
        while live.listeners(account.user.pk):
            assert time.monotonic() < ends
            time.sleep(0.02)
