"""As much of Telegram, Discord and Slack as a bot needs, on loopback: what a bot does is noted, what people say sent.

Each answers on one port, in a thread of its own: `with Telegram() as platform: platform.says("Hello")`.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
from typing import Any, Self

from aiohttp import WSMsgType, web


class Platform:
    def __init__(self) -> None:
        # (what was done, the message's id, its text), in order.
        self.done: list[tuple[str, str, str]] = []
        self.ids = itertools.count(100)
        self.loop = asyncio.new_event_loop()
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        started = threading.Event()
        self.thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self.thread.start()
        started.wait()
        return self

    def __exit__(self, *exception: object) -> None:
        asyncio.run_coroutine_threadsafe(self.runner.cleanup(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    def _run(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self._serve())
        started.set()
        self.loop.run_forever()

    async def _serve(self) -> None:
        self.updates: asyncio.Queue[Any] = asyncio.Queue()
        application = web.Application()
        application.add_routes([web.route("*", "/{path:.*}", self.answer)])
        self.runner = web.AppRunner(application, shutdown_timeout=0.5, access_log=None)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", 0)
        await site.start()
        self.port = self.runner.addresses[0][1]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        raise NotImplementedError

    def push(self, update: Any) -> None:
        self.loop.call_soon_threadsafe(self.updates.put_nowait, update)

    def note(self, what: str, number: object, text: object) -> None:
        self.done.append((what, str(number), str(text)))

    def shown(self) -> dict[str, str]:
        """The messages of the bot as they stand now, by their ids."""
        return {number: text for _what, number, text in self.done}

    def wait_for(self, text: str, seconds: float = 15) -> None:
        """Until the bot's latest message is this one."""
        ends = time.monotonic() + seconds
        while not self.done or list(self.shown().values())[-1] != text:
            assert time.monotonic() < ends, (text, self.done)
            time.sleep(0.02)

    async def relay(self, socket: web.WebSocketResponse) -> None:
        while True:
            await socket.send_json(await self.updates.get())

    async def hold(self, socket: web.WebSocketResponse, sending: Any) -> web.WebSocketResponse:
        """Send what is pushed until the other side leaves."""
        relaying = asyncio.create_task(sending)
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                self.heard(socket, json.loads(message.data))
        relaying.cancel()
        return socket

    def heard(self, socket: web.WebSocketResponse, message: dict[str, Any]) -> None:
        """What a bot says on its socket: heartbeats and acknowledgements."""


class Telegram(Platform):
    BOT = {"id": 1, "is_bot": True, "first_name": "Bot", "username": "bot"}  # noqa: RUF012

    def says(self, text: str, *, user: int = 7) -> None:
        number = next(self.ids)
        command = text.partition(" ")[0]
        entities = [{"type": "bot_command", "offset": 0, "length": len(command)}] if text.startswith("/") else []
        message = self._message(number, text, user) | {
            "from": {"id": user, "is_bot": False, "first_name": "Ada", "username": "ada"},
            "entities": entities,
        }
        self.push({"update_id": number, "message": message})

    async def answer(self, request: web.Request) -> web.StreamResponse:
        method, sent = request.path.rpartition("/")[2], await request.post()
        text = sent.get("text", "")
        result: Any = True
        if method == "getMe":
            result = self.BOT
        elif method == "getUpdates":
            result = await self._waiting()
        elif method in {"sendMessage", "editMessageText"}:
            number = int(str(sent.get("message_id") or next(self.ids)))
            self.note(method, number, text)
            result = self._message(number, str(text), int(str(sent["chat_id"])))
        return web.json_response({"ok": True, "result": result})

    async def _waiting(self) -> list[Any]:
        try:
            return [await asyncio.wait_for(self.updates.get(), 0.5)]
        except TimeoutError:
            return []

    def _message(self, number: int, text: str, user: int) -> dict[str, Any]:
        chat = {"id": user, "type": "private", "first_name": "Ada"}
        return {"message_id": number, "date": int(time.time()), "chat": chat, "text": text}


def _plain_json(value: Any) -> web.Response:
    """As Discord says it: its library takes nothing else for JSON."""
    return web.Response(body=json.dumps(value).encode(), headers={"Content-Type": "application/json"})


class Discord(Platform):
    BOT = {"id": "1", "username": "bot", "discriminator": "0", "avatar": None, "bot": True}  # noqa: RUF012
    ADA = {"id": "7", "username": "ada", "discriminator": "0", "avatar": None}  # noqa: RUF012
    CHANNEL = {"id": "9", "type": 1, "last_message_id": None, "recipients": [ADA]}  # noqa: RUF012

    def says(self, text: str) -> None:
        message = self._message(next(self.ids), text, self.ADA)
        self.push({"op": 0, "t": "MESSAGE_CREATE", "s": 2, "d": message})

    async def answer(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        if path == "/gateway":
            return await self._gateway(request)
        if path == "/users/@me":
            return _plain_json(self.BOT)
        if path == "/oauth2/applications/@me":
            return _plain_json(
                {
                    "id": "1",
                    "name": "bot",
                    "description": "",
                    "bot_public": True,
                    "flags": 0,
                    "bot_require_code_grant": False,
                    "verify_key": "",
                    "team": None,
                    "owner": self.ADA,
                    "icon": None,
                    "summary": "",
                }
            )
        if path == "/users/@me/channels":
            return _plain_json(self.CHANNEL)
        sent = await request.json()
        number = path.rpartition("/")[2] if request.method == "PATCH" else next(self.ids)
        self.note("edit" if request.method == "PATCH" else "send", number, sent["content"])
        return _plain_json(self._message(number, sent["content"], self.BOT))

    async def _gateway(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_json({"op": 10, "d": {"heartbeat_interval": 40_000}})
        return await self.hold(socket, self._dispatch(socket))

    async def _dispatch(self, socket: web.WebSocketResponse) -> None:
        ready = {
            "v": 10,
            "user": self.BOT,
            "guilds": [],
            "session_id": "s",
            "resume_gateway_url": self.url,
            "application": {"id": "1", "flags": 0},
            "private_channels": [],
        }
        await socket.send_json({"op": 0, "t": "READY", "s": 1, "d": ready})
        await self.relay(socket)

    def _message(self, number: object, text: str, author: dict[str, Any]) -> dict[str, Any]:
        now = "2026-01-01T00:00:00+00:00"
        return {
            "id": str(number),
            "channel_id": "9",
            "author": author,
            "content": text,
            "timestamp": now,
            "edited_timestamp": None,
            "tts": False,
            "mention_everyone": False,
            "mentions": [],
            "mention_roles": [],
            "attachments": [],
            "embeds": [],
            "pinned": False,
            "type": 0,
            "components": [],
        }


class Slack(Platform):
    def says(self, text: str) -> None:
        number = f"{next(self.ids)}.0"
        if text.startswith("/"):
            command, _, rest = text.partition(" ")
            payload = {
                "command": command,
                "text": rest,
                "user_id": "U7",
                "team_id": "T1",
                "channel_id": "D1",
                "trigger_id": number,
                "response_url": f"{self.url}/respond",
            }
            self._envelope("slash_commands", number, payload)
            return
        event = {"type": "message", "channel_type": "im", "channel": "D1", "user": "U7", "text": text, "ts": number}
        self._envelope("events_api", number, {"type": "event_callback", "team_id": "T1", "event": event})

    def _envelope(self, kind: str, number: str, payload: dict[str, Any]) -> None:
        self.push({"type": kind, "envelope_id": number, "payload": payload, "accepts_response_payload": True})

    def heard(self, socket: web.WebSocketResponse, message: dict[str, Any]) -> None:
        """An acknowledgement may say something at once."""
        if text := (message.get("payload") or {}).get("text"):
            self.note("ack", message["envelope_id"], text)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        method = request.path.rpartition("/")[2]
        if method == "socket":
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            await socket.send_json({"type": "hello", "num_connections": 1, "connection_info": {"app_id": "A1"}})
            return await self.hold(socket, self.relay(socket))
        told: dict[str, Any] = {"ok": True}
        if method == "auth.test":
            told |= {"bot_id": "B1", "user_id": "UB", "team_id": "T1", "url": self.url, "team": "T", "user": "bot"}
        elif method == "apps.connections.open":
            told |= {"url": f"ws://127.0.0.1:{self.port}/socket"}
        else:
            sent = await request.json()
            told["ts"] = sent.get("ts") or f"{next(self.ids)}.0"
            self.note(method, told["ts"], sent["text"])
        return web.json_response(told, headers={"x-oauth-scopes": ""})
