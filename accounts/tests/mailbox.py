"""What a worker would do with the queue, and what then lies in the letter box."""

import re
from queue import Empty
from urllib.parse import unquote

from celery import current_app
from django.core import mail


def work() -> list[str]:
    """Do what is in the broker's queue, as a worker would; the names of the tasks."""
    done = []
    with current_app.connection_for_read() as connection, connection.SimpleQueue("celery") as queue:
        while True:
            try:
                message = queue.get_nowait()
            except Empty:
                return done
            name = message.headers["task"]
            current_app.tasks[name].apply(message.payload[0]).get()
            message.ack()
            done.append(name.rpartition(".")[2])


def token_in(message: mail.EmailMessage) -> str:
    return unquote(re.search(r"token=(\S+)", message.body)[1])
