"""E-mail, as everything else here knows it: a template, an address, and whether it went out."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from smtplib import SMTPResponseException
from urllib.parse import quote

from django.conf import settings
from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend
from django.template import Context
from django.template.loader import get_template
from django.utils import timezone


class MailNotSent(Exception):
    """The mail did not go out; trying again may help. Says why, but never to whom."""


def send(*, to: str, template: str, context: Mapping[str, object]) -> None:
    """Send `templates/mail/<template>.txt`, whose first line is the subject; `MailNotSent` if that fails.

    Nothing that users chose belongs into `context`: strangers' addresses would receive it in our name.
    """
    # The adapter of Django's engine escapes for HTML; this is plain text.
    source = get_template(f"mail/{template}.txt").template  # type: ignore[attr-defined]
    subject, _, body = source.render(Context(dict(context), autoescape=False)).partition("\n")
    message = EmailMessage(
        " ".join(subject.split()), body.strip() + "\n", to=[to], headers={"Auto-Submitted": "auto-generated"}
    )
    try:
        message.send()
    except (OSError, ValueError) as error:
        # Errors of mail servers repeat the address, and so do those about malformed ones.
        code = f" {error.smtp_code}" if isinstance(error, SMTPResponseException) else ""
        raise MailNotSent(f"{type(error).__name__}{code}") from None


def link(pattern: str, token: str) -> str:
    """The address of a page for `token`: one of the settings `VERIFY_EMAIL_URL` and `PASSWORD_RESET_URL` filled in."""
    return pattern.replace("{token}", quote(token, safe=""))


class FileBackend(BaseEmailBackend):
    """Django's interface to what sends mails: here each becomes a file in EMAIL_FILE_PATH, for its owner only."""

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        folder = Path(settings.EMAIL_FILE_PATH)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for message in email_messages:
            name = f"{timezone.now():%Y%m%d-%H%M%S-%f}-{secrets.token_hex(4)}.eml"
            with open(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(message.message().as_bytes())
        return len(email_messages)
