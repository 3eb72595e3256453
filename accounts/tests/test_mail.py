"""What mails look like, how they leave, and where they go without a mail server."""

import email
import socketserver
import stat
import threading
from contextlib import contextmanager

import pytest
from django.core import mail as django_mail
from django.template.loader import engines

from accounts import mail

CONTEXT = {"url": "https://example.com/?a=1&token=abc", "site": "example.com", "hours": 72}
SMTP = "django.core.mail.backends.smtp.EmailBackend"


@pytest.fixture
def template(settings, tmp_path):
    """Write a template `mail/test.txt`."""
    settings.TEMPLATES = [settings.TEMPLATES[0] | {"DIRS": [tmp_path]}]
    (tmp_path / "mail").mkdir()
    return (tmp_path / "mail" / "test.txt").write_text


@pytest.mark.parametrize("name", ["verify_email", "reset_password"])
def test_the_first_line_is_the_subject_and_nothing_is_escaped(mailoutbox, settings, name):
    settings.DEFAULT_FROM_EMAIL = "Us <us@example.com>"

    mail.send(to="alice@example.com", template=name, context=CONTEXT)

    (sent,) = mailoutbox
    source = engines["django"].engine.get_template(f"mail/{name}.txt").source
    assert sent.subject == source.splitlines()[0]
    assert sent.subject not in sent.body
    assert CONTEXT["url"] in sent.body.splitlines()
    assert "72 hours" in sent.body
    assert (sent.from_email, sent.to, sent.cc, sent.bcc) == ("Us <us@example.com>", ["alice@example.com"], [], [])
    assert sent.content_subtype == "plain"
    assert sent.message()["Auto-Submitted"] == "auto-generated"


def test_a_subject_stays_in_its_header(template, mailoutbox):
    template("{{ title }}\nText")

    mail.send(to="alice@example.com", template="test", context={"title": "A\rBcc:\tb@example.com"})

    assert mailoutbox[0].message()["Subject"] == "A Bcc: b@example.com"
    assert mailoutbox[0].recipients() == ["alice@example.com"]


@pytest.mark.parametrize("to", ["a@example.com\nBcc: b@example.com", "a@example.com\r\n\r\nText"])
def test_an_address_adds_no_header(mailoutbox, to):
    with pytest.raises(mail.MailNotSent) as problem:
        mail.send(to=to, template="verify_email", context=CONTEXT)

    assert mailoutbox == []
    assert "example.com" not in str(problem.value)


def test_a_token_is_put_into_the_address():
    assert mail.link("https://example.com/#/new?token={token}&a=b", "a.b&c") == (
        "https://example.com/#/new?token=a.b%26c&a=b"
    )


# Files --------------------------------------------------------------------------------------------------------------


def test_without_a_mail_server_mails_are_files_for_their_owner_only(settings, tmp_path):
    settings.EMAIL_BACKEND, settings.EMAIL_FILE_PATH = "accounts.mail.FileBackend", tmp_path / "data" / "mail"

    for _ in range(2):
        mail.send(to="alice@example.com", template="verify_email", context=CONTEXT)

    files = sorted(settings.EMAIL_FILE_PATH.iterdir())
    assert len(files) == 2
    assert stat.S_IMODE(settings.EMAIL_FILE_PATH.stat().st_mode) == 0o700
    for file in files:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert file.suffix == ".eml"
        assert CONTEXT["url"] in file.read_text().splitlines()
        assert email.message_from_bytes(file.read_bytes())["To"] == "alice@example.com"


def test_a_directory_that_cannot_be_written_is_a_mail_not_sent(settings):
    settings.EMAIL_BACKEND, settings.EMAIL_FILE_PATH = "accounts.mail.FileBackend", "/proc/mail"

    with pytest.raises(mail.MailNotSent):
        mail.send(to="alice@example.com", template="verify_email", context=CONTEXT)


# SMTP ---------------------------------------------------------------------------------------------------------------


@contextmanager
def smtp_server(settings, *, recipient_answer):
    """A mail server that keeps what it is sent."""
    said = []

    class Session(socketserver.StreamRequestHandler):
        def handle(self):
            self.wfile.write(b"220 ready\r\n")
            for line in self.rfile:
                said.append(line.decode().rstrip())
                word = line.split(b" ")[0].strip().upper()
                if word == b"RCPT":
                    self.wfile.write(recipient_answer)
                elif word == b"DATA":
                    self.wfile.write(b"354 go on\r\n")
                    said.extend(text.decode().rstrip() for text in iter(self.rfile.readline, b".\r\n"))
                    self.wfile.write(b"250 taken\r\n")
                else:
                    self.wfile.write(b"221 bye\r\n" if word == b"QUIT" else b"250 well\r\n")

    with socketserver.TCPServer(("127.0.0.1", 0), Session) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        settings.EMAIL_BACKEND, settings.EMAIL_USE_TLS = SMTP, False
        settings.EMAIL_HOST, settings.EMAIL_PORT = server.server_address
        yield said
        server.shutdown()
        thread.join()


def test_a_mail_leaves_by_smtp(settings):
    with smtp_server(settings, recipient_answer=b"250 well\r\n") as said:
        mail.send(to="alice@example.com", template="verify_email", context=CONTEXT)

    assert "rcpt TO:<alice@example.com>" in [line.replace("RCPT", "rcpt") for line in said]
    assert CONTEXT["url"] in said


def test_what_a_mail_server_refuses_is_told_without_the_address(settings):
    answer = b"550 alice@example.com is unknown\r\n"
    with (
        smtp_server(settings, recipient_answer=answer),
        pytest.raises(mail.MailNotSent, match="SMTPRecipientsRefused") as problem,
    ):
        mail.send(to="alice@example.com", template="verify_email", context=CONTEXT)

    assert "alice" not in str(problem.value)
    assert problem.value.__suppress_context__


def test_a_mail_server_that_is_away_is_a_mail_not_sent(settings, unused_tcp_port):
    settings.EMAIL_BACKEND, settings.EMAIL_HOST, settings.EMAIL_PORT = SMTP, "127.0.0.1", unused_tcp_port

    with pytest.raises(mail.MailNotSent, match="ConnectionRefusedError"):
        mail.send(to="alice@example.com", template="verify_email", context=CONTEXT)
    assert django_mail.outbox == []
