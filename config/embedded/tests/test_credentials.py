import json
import os
import re
import stat
import subprocess

import pytest

from config.embedded import credentials
from config.embedded.credentials import Credentials

BASE = "http://127.0.0.1:8000"
KNOWN = Credentials(BASE, "operator@mainstay.local", "the-password", "msk_the-key")


@pytest.fixture(autouse=True)
def up_file(tmp_path, monkeypatch):
    monkeypatch.setattr(credentials, "UP_FILE", tmp_path / "up.json")
    for variable in ("OPERATOR_EMAIL", "EMAIL_HOST"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path / "up.json"


def test_only_its_owner_reads_the_file_of_a_running_installation(up_file):
    credentials.keep(KNOWN, running=True)
    assert stat.S_IMODE(up_file.stat().st_mode) == 0o600
    assert json.loads(up_file.read_text()) == {
        "base_url": BASE,
        "operator_email": "operator@mainstay.local",
        "operator_password": "the-password",
        "api_key": "msk_the-key",
        "pid": os.getpid(),
    }


def test_a_stopped_installation_has_no_pid(up_file):
    credentials.keep(KNOWN, running=False)
    assert json.loads(up_file.read_text())["pid"] is None


def test_the_next_start_remembers():
    credentials.keep(KNOWN, running=True)
    assert credentials.remember(BASE) == KNOWN


@pytest.mark.parametrize("content", [None, "", "{", "{}"])
def test_a_lost_or_broken_file_is_as_none(up_file, content):
    if content is not None:
        up_file.write_text(content)
    assert credentials.remember(BASE) == Credentials(BASE, "operator@mainstay.local")


def test_another_operator_does_not_get_the_password_of_the_first(monkeypatch):
    credentials.keep(KNOWN, running=True)
    monkeypatch.setenv("OPERATOR_EMAIL", "olga@example.org")
    assert credentials.remember(BASE) == Credentials(BASE, "olga@example.org", None, "msk_the-key")


def test_the_database_gives_what_is_new():
    assert KNOWN.updated({"operator_password": None, "api_key": "msk_new"}).api_key == "msk_new"
    assert KNOWN.updated({"operator_password": "new", "api_key": None}).operator_password == "new"


def test_the_first_banner_shows_the_secrets():
    banner = credentials.banner(KNOWN, {"operator_password", "api_key"})
    for shown in (f"{BASE}/admin/", f"{BASE}/api/docs", f"{BASE}/v1", KNOWN.operator_email, "the-password", "curl"):
        assert shown in banner
    assert '-H "Authorization: Bearer msk_the-key"' in banner


def test_the_banner_says_where_mails_go(tmp_path, monkeypatch):
    monkeypatch.setattr(credentials, "MAIL_DIR", tmp_path / ".data" / "mail")
    assert f"\n  Mail       {tmp_path}/.data/mail/ (no EMAIL_HOST is set)\n" in credentials.banner(KNOWN, set())
    monkeypatch.chdir(tmp_path)
    assert "\n  Mail       .data/mail/ (no EMAIL_HOST is set)\n" in credentials.banner(KNOWN, set())
    monkeypatch.setenv("EMAIL_HOST", "smtp.example.com")
    assert "\n  Mail       sent through smtp.example.com\n" in credentials.banner(KNOWN, set())


def test_later_banners_show_where_the_secrets_are(up_file):
    banner = credentials.banner(KNOWN, set())
    assert "the-password" not in banner
    assert "msk_the-key" not in banner
    assert str(up_file) in banner


def test_the_later_curl_finds_the_key_by_itself():
    credentials.keep(KNOWN, running=True)
    bearer = re.search(r'Bearer (\$\(sed .*\))" -H', credentials.banner(KNOWN, set()))[1]
    result = subprocess.run(["sh", "-c", f'echo "{bearer}"'], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "msk_the-key"
