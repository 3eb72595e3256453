from accounts.tests.factories import UserFactory
from conversations import threads
from conversations.models import Conversation, Message


def a_conversation(user=None, *contents, **fields):
    """A conversation in which user and assistant have said `contents` in turn."""
    talk = Conversation.objects.create(user=user or UserFactory(), **fields)
    for number, content in enumerate(contents):
        said(talk, content, role="assistant" if number % 2 else "user")
    talk.refresh_from_db()
    return talk


def said(talk, content, *, role="user", **fields):
    return threads.append(conversation_id=talk.pk, role=Message.Role(role), content=content, **fields)
