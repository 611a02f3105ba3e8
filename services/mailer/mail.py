"""Mail: at most one decision to send; what stays in doubt is counted, never hidden.

pending → sending → sent | ambiguous | suppressed | expired | refused. The decision is committed before the server is
spoken to, so a crash leaves `sending` behind: once that attempt must be over, the mail is in doubt.
"""

import asyncio
from contextlib import suppress
from email.message import EmailMessage

import asyncpg
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_exponential

from eventing import Database, Event, Overload, Permanent, Temporary, attributes
from eventing.errors import Unavailable
from eventing.metrics import EMAILS, EMAILS_AMBIGUOUS
from eventing.sql import load
from eventing.tracing import effect
from mailer.settings import MailerSettings
from mailer.smtp import Ambiguous, Server

_SQL = load("mailer", "intent")

LOOK_EVERY = 15.0  # seconds between counts of the mails in doubt
INSIST = 60.0  # seconds; longer than a database takes to restart or fail over

Intent = tuple[str, str, str]  # event id, template, recipient


class Mail:
    """Sends mails that belong to events."""

    def __init__(self, database: Database, settings: MailerSettings) -> None:
        self._database = database
        self._settings = settings
        self._server = Server(settings)

    async def __aenter__(self) -> "Mail":
        """Return the way to the server; it connects when there is something to send."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections."""
        await self._server.close()

    async def watch(self) -> None:
        """Keep saying how many mails wait for a person, until cancelled; an outage leaves the last number."""
        while True:
            with suppress(Unavailable, TimeoutError, asyncpg.PostgresError):
                row = await self._database.fetchrow(_SQL["ambiguous"])
                EMAILS_AMBIGUOUS.set(row["count"] if row else 0)
            await asyncio.sleep(LOOK_EVERY)

    async def send(self, event: Event, template: str, *, to: str, subject: str, text: str) -> None:
        """Send one mail for an event, unless it was sent, suppressed or has expired.

        Raises:
            Permanent, Temporary, Overload: see `Server.send`; the intent is kept and taken up again.
        """
        intent = (event.id, template, to.lower())
        if not await self._decided(intent, event):
            return
        with effect("smtp send", {attributes.MAIL_TEMPLATE: template}):
            try:
                await self._server.send(self._compose(intent, to=to, subject=subject, text=text))
            except Ambiguous as error:
                if await self._doubt(intent, "pending"):
                    raise Temporary(f"no answer from the mail server: {error}") from error
                return
            except (Permanent, Temporary, Overload) as error:
                await self._settle(intent, "refused" if isinstance(error, Permanent) else "pending")
                raise
        await self._settle(intent, "sent")

    async def _decided(self, intent: Intent, event: Event) -> bool:
        """Decide to send; False when there is nothing (more) to send."""
        row = await self._database.fetchrow(_SQL["claim"], *intent, event.expires)
        if row is None:
            return await self._again(intent)
        if row["state"] != "sending":
            EMAILS.labels(intent[1], row["state"]).inc()
        return bool(row["state"] == "sending")

    async def _again(self, intent: Intent) -> bool:
        """Look at an intent that exists: done, someone is at it, or in doubt."""
        row = await self._database.fetchrow(_SQL["state"], *intent)
        if row is None or row["state"] not in ("sending", "refused"):
            return False
        if row["state"] == "refused":  # redriven after the cause was repaired
            await self._settle(intent, "pending")
            return await self._database.fetchrow(_SQL["claim"], *intent, None) is not None
        if row["age"] < self._settings.claim:
            raise Temporary("another attempt at this mail may be under way", delay=self._settings.claim - row["age"])
        return await self._doubt(intent, "sending")

    async def _doubt(self, intent: Intent, again: str) -> bool:
        """Count a mail that may have been sent; True to send it again, from state `again`, False when it is held."""
        hold = self._settings.when_ambiguous == "hold"
        if not await self._database.fetchrow(_SQL["doubt"], *intent, "ambiguous" if hold else again):
            return False
        EMAILS.labels(intent[1], "ambiguous").inc()
        return not hold

    async def _settle(self, intent: Intent, state: str) -> None:
        """Record what the server said; insist while the database is away: to forget it would send again."""
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type((Unavailable, TimeoutError)),
            wait=wait_exponential(multiplier=0.1, max=2),
            stop=stop_after_delay(INSIST),
            reraise=True,
        ):
            with attempt:
                await self._database.execute(_SQL["settle"], *intent, state)
        if state != "pending":
            EMAILS.labels(intent[1], state).inc()

    def _compose(self, intent: Intent, *, to: str, subject: str, text: str) -> EmailMessage:
        """Write the mail; its id follows from the intent, so that servers and readers can tell a duplicate."""
        mail = EmailMessage()
        domain = self._settings.sender.partition("@")[2]
        mail["From"], mail["To"], mail["Subject"] = self._settings.sender, to, subject
        mail["Message-ID"] = f"<{intent[0]}.{intent[1]}@{domain}>"
        mail.set_content(text)
        return mail
