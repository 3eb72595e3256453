"""What a bot needs of Mainstay's API: to have something answered, and to make one person of two accounts."""

import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp

URL = os.environ.get("MAINSTAY_URL", "http://127.0.0.1:8000")
# Of an API key with the scopes act-as and inference.
KEY = os.environ.get("MAINSTAY_KEY", "")
# Platforms allow about one edit of a message in a second.
EDIT_SECONDS = float(os.environ.get("EDIT_SECONDS", "1"))


def calling(person: str) -> aiohttp.ClientSession:
    """`person` is `channel:id`, such as `telegram:1234`."""
    headers = {"Authorization": f"Bearer {KEY}", "X-On-Behalf-Of": person}
    return aiohttp.ClientSession(URL, headers=headers, read_bufsize=2**20)


async def ask(person: str, content: str, *, update: str, username: str = "", new: bool = False) -> AsyncIterator[str]:
    """The answer as far as it has come, again and again; `update` is the platform's own id of the message."""
    path = f"/api/v1/channels/{person.partition(':')[0]}/messages"
    body = {"content": content, "client_message_id": update, "username": username, "new": new, "stream": True}
    text = ""
    try:
        async with calling(person) as session, session.post(path, json=body) as answer:
            if answer.status != 200:
                error = (await answer.json())["error"]
                if error["code"] != "reply_in_progress":  # the platform has delivered it twice
                    yield error.get("text") or error["message"]
                return
            async for line in answer.content:
                if line.startswith(b"data: {"):
                    text += piece_of(json.loads(line.removeprefix(b"data: ")))
                    if text:
                        yield text
    except (aiohttp.ClientError, TimeoutError):
        yield f"{text}\n\nI cannot be reached just now. Try again.".lstrip()


def piece_of(data: dict) -> str:
    if "error" in data:
        return f"\n\n{data['error']['message']}"
    welcome = f"{data['welcome']}\n\n" if "welcome" in data else ""
    return welcome + "".join(choice["delta"].get("content") or "" for choice in data.get("choices", ()))


async def show(
    texts: AsyncIterator[str],
    send: Callable[[str], Awaitable[object]],
    edit: Callable[[object, str], Awaitable[object]],
    *,
    longest: int,
) -> None:
    """Send the first of the texts, and edit it as they grow; what is too long for one message follows in others."""
    sent, shown, text, at = None, "", "", 0.0
    async for text in texts:
        if sent is None:
            sent = await send(text[:longest])
        elif time.monotonic() - at >= EDIT_SECONDS and text[:longest] != shown:
            await edit(sent, text[:longest])
        else:
            continue
        shown, at = text[:longest], time.monotonic()
    if text[:longest] != shown:
        await edit(sent, text[:longest])
    for start in range(longest, len(text), longest):
        await send(text[start : start + longest])


async def link(person: str, code: str = "") -> str:
    """What to tell a person who wants to be the same one here and elsewhere; `code` was made elsewhere."""
    body = {"code": code} if code else {}
    async with calling(person) as session, session.post("/api/v1/users/me/channels", json=body) as answer:
        said = await answer.json()
    if answer.status == 201:
        return f"Type {said['code']} where you want to be linked, within ten minutes."
    return "You are linked." if answer.status == 200 else said["error"]["message"]
