"""A Telegram bot: what people write to it is answered by a model, in a message that grows.

TELEGRAM_TOKEN=… MAINSTAY_URL=https://… MAINSTAY_KEY=msk_… python examples/telegram_bot.py

/new and some text begins a new conversation. /link shows a code, with which one becomes the same person elsewhere;
/link and a code from elsewhere, the same person here.
"""

import asyncio
import os

from aiogram import Bot, Dispatcher, F
from aiogram.client.session.aiohttp import AiohttpSession
from aiogram.client.telegram import PRODUCTION, TelegramAPIServer
from aiogram.filters import Command, CommandObject, CommandStart
from aiogram.types import Message
from mainstay import ask, link, show

LONGEST = 4096

dispatcher = Dispatcher()
# In groups, codes would be shown to everybody.
dispatcher.message.filter(F.chat.type == "private")


@dispatcher.message(CommandStart())
async def start(message: Message) -> None:
    await message.answer("Write something. /new begins a new conversation, /link links your accounts.")


@dispatcher.message(Command("link"))
async def link_accounts(message: Message, command: CommandObject) -> None:
    await message.answer(await link(person_of(message), command.args or ""))


@dispatcher.message(Command("new"))
async def begin_anew(message: Message, command: CommandObject) -> None:
    if command.args:
        await reply(message, command.args, new=True)
    else:
        await message.answer("Write /new and what you want to say.")


@dispatcher.message(F.text)
async def answer(message: Message) -> None:
    await reply(message, message.text)


async def reply(message: Message, content: str, *, new: bool = False) -> None:
    update, username = f"{message.chat.id}-{message.message_id}", message.from_user.username or ""
    texts = ask(person_of(message), content, update=update, username=username, new=new)
    await show(texts, message.answer, lambda sent, text: sent.edit_text(text), longest=LONGEST)


def person_of(message: Message) -> str:
    return f"telegram:{message.from_user.id}"


async def main() -> None:
    # A Bot API server of one's own may stand at TELEGRAM_API.
    own = os.environ.get("TELEGRAM_API")
    session = AiohttpSession(api=TelegramAPIServer.from_base(own) if own else PRODUCTION)
    await dispatcher.start_polling(Bot(os.environ["TELEGRAM_TOKEN"], session=session))


if __name__ == "__main__":
    asyncio.run(main())
