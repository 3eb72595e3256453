from conversations.admin.channels import ChannelConfigAdmin
from conversations.admin.conversations import ConversationAdmin

__all__ = ["ChannelConfigAdmin", "ConversationAdmin"]
