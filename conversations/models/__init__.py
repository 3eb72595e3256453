"""What was said, and where."""

from conversations.models.channels import ChannelConfig
from conversations.models.conversations import Conversation
from conversations.models.messages import Message

__all__ = ["ChannelConfig", "Conversation", "Message"]
