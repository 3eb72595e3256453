from accounts.exceptions import Conflict, NotAllowed, NotFound


class ConversationNotFound(NotFound):
    message = "No such conversation."


class MessageNotFound(NotFound):
    code = "message_not_found"
    message = "The conversation has no such message."


class ClientMessageReused(Conflict):
    """The same id came again with something else to say."""

    code = "client_message_id_reused"
    message = "The conversation has another message with this client_message_id."


class ReplyInProgress(Conflict):
    code = "reply_in_progress"
    message = "This message is being answered right now."
    retryable = True


class ChannelNotFound(NotFound):
    code = "channel_not_found"
    message = "There is no such channel."


class ChannelOff(NotAllowed):
    code = "channel_off"

    def __init__(self, channel: str) -> None:
        super().__init__(f"The channel {channel[:50]} is switched off.")
