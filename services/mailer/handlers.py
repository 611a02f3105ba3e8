"""Welcome every new user by mail."""

import asyncio
from collections.abc import AsyncIterator

from contracts.users import UserRegistered
from eventing import Consumer, Database, Event, Permanent
from mailer.mail import Mail
from mailer.settings import MailerSettings

consumer = Consumer(group="mailer")

WELCOME = "Hello {name},\n\nyour account is ready.\n"


@consumer.resource
async def mail(database: Database) -> AsyncIterator[Mail]:
    """Open the way to the mail server."""
    async with Mail(database, MailerSettings.read()) as opened:
        watching = asyncio.create_task(opened.watch())
        try:
            yield opened
        finally:
            watching.cancel()
            await asyncio.wait([watching])


@consumer.on(UserRegistered)
async def welcome(user: UserRegistered, event: Event, mail: Mail) -> None:
    """Send the welcome mail once."""
    if user.email is None:
        raise Permanent("email is missing: this event names no address to welcome")
    await mail.send(event, "welcome", to=user.email, subject="Welcome", text=WELCOME.format(name=user.name or "there"))
