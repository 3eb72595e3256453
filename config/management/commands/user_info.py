"""manage.py user_info"""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import orjson
from django.core.management.base import CommandParser

from accounts.management.plain import PlainCommand
from config.userinfo import find_user, user_info

BAR = 24


class Command(PlainCommand):
    help = (
        "Show everything about a user that helps to help them: account, roles, plan, quotas, keys, open sessions, "
        "channels and the latest requests. No secret is shown and nothing is changed."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user", metavar="USER", help="an e-mail address, an id, or a channel identity (x:12)")
        parser.add_argument("--json", action="store_true", help="the same as one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        info = user_info(find_user(options["user"]))
        self.stdout.write(orjson.dumps(info).decode() if options["json"] else "\n".join(report(info)))


def report(info: dict[str, Any]) -> Iterator[str]:
    yield from account(info["account"], info["plan"])
    for title, rows, line in (
        ("Quotas", info["quotas"], quota),
        ("API keys", info["keys"], key),
        ("Open sessions", info["sessions"], session),
        ("Channels", info["channels"], channel),
        ("Latest requests", info["requests"], request),
    ):
        yield f"\n{title}"
        yield from [f"  {line(row)}" for row in rows] or ["  none"]


def account(user: dict[str, Any], plan: dict[str, Any] | None) -> Iterator[str]:
    rights = [name for name, held in (("superuser", user["is_superuser"]), ("staff", user["is_staff"])) if held] + user[
        "roles"
    ]
    yield f"{user['email'] or user['username'] or 'A user without an address'}  {user['id']}"
    yield f"  name        {user['full_name'] or '-'}"
    yield f"  state       {state(user)}"
    yield f"  rights      {', '.join(rights) or '-'}"
    yield f"  plan        {plan['name'] + ', ' + plan['status'] if plan else 'none yet'}"
    yield f"  registered  {moment(user['created_at'])}"
    yield f"  signed in   {moment(user['last_login'])}"


def state(user: dict[str, Any]) -> str:
    if user["merged_into"]:
        return f"merged into {user['merged_into']}"
    if user["erased_at"]:
        return f"erased {moment(user['erased_at'])}"
    return f"{'active' if user['is_active'] else 'shut out'}, {'' if user['is_verified'] else 'not '}verified"


def quota(row: dict[str, Any]) -> str:
    text = f"{row['used']:,} of {row['limit']:,}"
    text += f", {row['held']:,} held" if row["held"] else ""
    text += f", {row['granted']:,} of it granted" if row["granted"] else ""
    over = "period is over" if row["is_over"] else f"until {moment(row['reset_date'])}"
    return f"{row['meter']:<16} {row['period']:<6} {bar(row)} {text}; {over if row['reset_date'] else 'never resets'}"


def bar(row: dict[str, Any]) -> str:
    """What is used as `#`, what is held as `+`."""
    scale = max(row["limit"], row["used"] + row["held"], 1)
    used = round(BAR * row["used"] / scale)
    held = round(BAR * (row["used"] + row["held"]) / scale) - used
    return f"[{'#' * used}{'+' * held}{'.' * (BAR - used - held)}]"


def key(row: dict[str, Any]) -> str:
    is_over = row["expires_at"] is not None and row["expires_at"] <= datetime.now(row["expires_at"].tzinfo)
    state = "expired" if is_over else "usable" if row["is_active"] else "revoked"
    used = f"last used {moment(row['last_used_at'])}" if row["last_used_at"] else "never used"
    return f"msk_{row['prefix']}_…  {state:<8} {row['name']}: {', '.join(row['scopes'])}; {used}"


def session(row: dict[str, Any]) -> str:
    device = row["device"] or row["user_agent"] or "unknown device"
    return f"{device}, {row['ip'] or 'unknown address'}; last seen {moment(row['last_seen_at'])}"


def channel(row: dict[str, Any]) -> str:
    return f"{row['channel']}  {row['username'] or '-'}"


def request(row: dict[str, Any]) -> str:
    status = row["error_code"] or row["status"]
    tokens = f"{row['input_tokens']:,} + {row['output_tokens']:,} tokens"
    return f"{moment(row['created_at'])}  {row['request_type']} {row['model']}  {status}, {tokens}  {row['id']}"


def moment(instant: datetime | None) -> str:
    return f"{instant:%Y-%m-%d %H:%M} UTC" if instant else "never"
