from accounts.exceptions import NotFound


class ConversationNotFound(NotFound):
    message = "No such conversation."
