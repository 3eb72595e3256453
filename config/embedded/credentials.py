"""`.data/up.json`, which scripts read, and the banner, which people read."""

import json
import os
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from config.embedded.paths import LOG_DIR, MAIL_DIR, UP_FILE, write_private_json

DEFAULT_OPERATOR_EMAIL = "operator@mainstay.local"
CHAT_MODEL = "smollm2"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a person or a script needs to use the installation. `pid` is None while it does not run."""

    base_url: str
    operator_email: str
    operator_password: str | None = None
    api_key: str | None = None
    pid: int | None = None

    def updated(self, news: Mapping[str, str | None]) -> "Credentials":
        """These, with what the database has just been given."""
        password = news.get("operator_password") or self.operator_password
        return replace(self, operator_password=password, api_key=news.get("api_key") or self.api_key)


def remember(base_url: str) -> Credentials:
    """What earlier starts have made. What is None here, the first data makes anew."""
    try:
        known = json.loads(UP_FILE.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        known = {}
    email = os.environ.get("OPERATOR_EMAIL") or known.get("operator_email") or DEFAULT_OPERATOR_EMAIL
    password = known.get("operator_password") if known.get("operator_email") == email else None
    return Credentials(base_url, email, password, known.get("api_key"))


def keep(credentials: Credentials, *, running: bool) -> None:
    """Write them to `.data/up.json`, for its owner only."""
    write_private_json(UP_FILE, asdict(replace(credentials, pid=os.getpid() if running else None)))


def banner(credentials: Credentials, news: Collection[str]) -> str:
    """What to open, and what to paste. A secret is shown at the start that made it (`news`), and never again."""
    base = credentials.base_url
    elsewhere = f"(in {UP_FILE})"
    password = credentials.operator_password if "operator_password" in news else elsewhere
    key = f"{credentials.api_key}  (shown only this once)" if "api_key" in news else elsewhere
    from_file = f"""$(sed -n 's/.*"api_key": "\\([^"]*\\)".*/\\1/p' '{UP_FILE}')"""
    bearer = credentials.api_key if "api_key" in news else from_file
    body = f'{{"model": "{CHAT_MODEL}", "stream": true, "messages": [{{"role": "user", "content": "Say hello."}}]}}'
    return f"""
Mainstay is ready.

  Admin      {base}/admin/
  API docs   {base}/api/docs
  OpenAI     {base}/v1

  Operator   {credentials.operator_email}
  Password   {password}
  API key    {key}
  Mail       {where_mail_goes()}

Try it:

  curl -N {base}/v1/chat/completions -H "Authorization: Bearer {bearer}" -H "Content-Type: application/json" -d '{body}'

Logs are in {LOG_DIR}. Ctrl-C stops everything.
"""


def where_mail_goes() -> str:
    """The mail server that the environment names, or the directory that stands in for one."""
    if host := os.environ.get("EMAIL_HOST"):
        return f"sent through {host}"
    here = Path.cwd()
    directory = MAIL_DIR.relative_to(here) if MAIL_DIR.is_relative_to(here) else MAIL_DIR
    return f"{directory}/ (no EMAIL_HOST is set)"
