"""A Slack bot: what people write to it is answered by a model, in a message that grows.

SLACK_BOT_TOKEN=xoxb-… SLACK_APP_TOKEN=xapp-… MAINSTAY_URL=https://… MAINSTAY_KEY=msk_… python examples/slack_bot.py

It uses socket mode. The app needs the event message.im, the scopes chat:write, im:history and commands, and the
commands /new and /link. /new and some text begins a new conversation. /link shows a code, with which one becomes the
same person elsewhere; /link and a code from elsewhere, the same person here.
"""

import asyncio
import os

from mainstay import ask, link, show
from slack_bolt.adapter.socket_mode.aiohttp import AsyncSocketModeHandler
from slack_bolt.async_app import AsyncApp
from slack_sdk.web.async_client import AsyncWebClient

LONGEST = 3900

client = AsyncWebClient(os.environ["SLACK_BOT_TOKEN"], base_url=os.environ.get("SLACK_API", AsyncWebClient.BASE_URL))
app = AsyncApp(client=client)


@app.event("message")
async def answer(event: dict, context: dict) -> None:
    # Changed messages and the bot's own have a subtype or a bot's id.
    if event.get("channel_type") == "im" and not event.get("subtype") and not event.get("bot_id"):
        person = f"slack:{context['team_id']}.{event['user']}"
        await reply(person, event["channel"], event["text"], update=f"{event['channel']}-{event['ts']}")


@app.command("/new")
async def begin_anew(ack, command: dict) -> None:
    if not command.get("text"):
        await ack("Write /new and what you want to say.")
        return
    await ack()
    update = f"new-{command['trigger_id']}"[:100]
    await reply(person_of(command), command["channel_id"], command["text"], update=update, new=True)


@app.command("/link")
async def link_accounts(ack, respond, command: dict) -> None:
    await ack()
    # Only the person sees it.
    await respond(await link(person_of(command), command.get("text", "")))


def person_of(command: dict) -> str:
    return f"slack:{command['team_id']}.{command['user_id']}"


async def reply(person: str, channel: str, content: str, *, update: str, new: bool = False) -> None:
    async def send(text: str) -> str:
        return (await client.chat_postMessage(channel=channel, text=text))["ts"]

    async def edit(ts: str, text: str) -> None:
        await client.chat_update(channel=channel, ts=ts, text=text)

    await show(ask(person, content, update=update, new=new), send, edit, longest=LONGEST)


async def main() -> None:
    await AsyncSocketModeHandler(app, os.environ["SLACK_APP_TOKEN"]).start_async()


if __name__ == "__main__":
    asyncio.run(main())
