"""A Discord bot: what people write to it, or where they mention it, is answered by a model, in a message that grows.

DISCORD_TOKEN=… MAINSTAY_URL=https://… MAINSTAY_KEY=msk_… python examples/discord_bot.py

The bot needs the privileged intent "Message Content". !new and some text begins a new conversation. !link shows a code,
with which one becomes the same person elsewhere; !link and a code from elsewhere, the same person here.
"""

import os

import discord
from mainstay import ask, link, show

LONGEST = 2000

intents = discord.Intents.default()
intents.message_content = True
client = discord.Client(intents=intents)


@client.event
async def on_message(message: discord.Message) -> None:
    is_for_us = message.guild is None or client.user in message.mentions
    if message.author.bot or not is_for_us:
        return
    said = message.content.replace(client.user.mention, "").strip()
    command, _, rest = said.partition(" ")
    person = f"discord:{message.author.id}"
    if command == "!link":
        # Codes are for the person alone.
        await message.author.send(await link(person, rest.strip()))
    elif command == "!new" and not rest.strip():
        await message.channel.send("Write !new and what you want to say.")
    elif said:
        is_new = command == "!new"
        content, update = rest if is_new else said, str(message.id)
        texts = ask(person, content, update=update, username=message.author.name, new=is_new)
        await show(texts, message.channel.send, lambda sent, text: sent.edit(content=text), longest=LONGEST)


if __name__ == "__main__":
    client.run(os.environ["DISCORD_TOKEN"])
