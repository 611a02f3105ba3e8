"""A mail server that delivers to a list."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import cast

from aiosmtpd.smtp import SMTP, Envelope, Session

from workbench.ports import LOOPBACK, free_port

Refusal = Callable[[str], str | None]


@dataclass(frozen=True)
class Mail:
    """An accepted mail: the message, and the addresses the client asked it to be delivered to."""

    message: EmailMessage
    recipients: tuple[str, ...]


class Mailbox:
    """Catches mail inside this event loop.

    Attributes:
        port: Where it listens, on 127.0.0.1.
        messages: Every accepted mail, in order of acceptance.
        before_answer: Awaited with an accepted mail before the client hears about it: the window in
            which a client that dies cannot know whether its mail was taken.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.messages: list[Mail] = []
        self.before_answer: Callable[[Mail], Awaitable[None]] | None = None
        self._refusal: Refusal = _welcome
        self._arrived = asyncio.Condition()
        self._connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None

    @classmethod
    async def start(cls, port: int | None = None) -> "Mailbox":
        """Listen on `port`, a free one when None."""
        mailbox = cls(port or free_port())
        await mailbox.resume()
        return mailbox

    async def resume(self) -> None:
        """Listen again after `stop`, on the same port, with the messages so far."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._connect, LOOPBACK, self.port)

    async def stop(self) -> None:
        """Stop listening and drop every connection, as a server that goes away does."""
        if self._server:
            self._server.close()
            closed = [connection.closed for connection in self._connections]
            self.cut()
            await asyncio.gather(*closed)
            await self._server.wait_closed()
            self._server = None

    def cut(self) -> None:
        """Drop every connection without a word, as a network does."""
        for connection in set(self._connections):
            connection.drop()

    def refuse(self, answer: str | Refusal | None) -> None:
        """Refuse recipients.

        Args:
            answer: The answer to every RCPT, such as `451 4.3.0 busy`; or a function of the address that
                returns the answer, or None to accept; None accepts everybody again.
        """
        if answer is None:
            self._refusal = _welcome
        elif isinstance(answer, str):
            self._refusal = lambda _address: answer
        else:
            self._refusal = answer

    async def received(self, count: int, timeout: float = 10) -> list[Mail]:  # noqa: ASYNC109 - reads better in a test
        """Wait until at least `count` mails were accepted; return all of them.

        Raises:
            TimeoutError: There were fewer after `timeout` seconds.
        """
        try:
            async with asyncio.timeout(timeout), self._arrived:
                await self._arrived.wait_for(lambda: len(self.messages) >= count)
        except TimeoutError:
            raise TimeoutError(f"{len(self.messages)} of {count} mails after {timeout:g} s") from None
        return list(self.messages)

    def duplicates(self) -> dict[str, int]:
        """Return how often each Message-ID that came more than once came."""
        counts = Counter(str(mail.message["Message-ID"]) for mail in self.messages)
        return {message_id: count for message_id, count in counts.items() if count > 1}

    def _connect(self) -> "_Connection":
        return _Connection(self, self._connections)

    async def handle_RCPT(  # noqa: N802 - the name aiosmtpd looks for
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        """Answer a recipient."""
        if refusal := self._refusal(address):
            return refusal
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 - as above
        """Keep a mail."""
        content = cast("bytes", envelope.content).replace(b"\r\n", b"\n")  # CRLF is the wire's
        mail = Mail(message_from_bytes(content, policy=default), tuple(envelope.rcpt_tos))
        self.messages.append(mail)
        async with self._arrived:
            self._arrived.notify_all()
        if self.before_answer:
            await self.before_answer(mail)
        return "250 2.0.0 OK"


class _Connection(SMTP):
    """One client; known to the mailbox as long as it is connected."""

    def __init__(self, mailbox: Mailbox, connections: "set[_Connection]") -> None:
        loop = asyncio.get_running_loop()
        # A given host name saves a DNS look-up per connection.
        super().__init__(mailbox, hostname="localhost", enable_SMTPUTF8=True, loop=loop)
        self._connections = connections
        self.closed = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._connections.add(self)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._connections.discard(self)
        super().connection_lost(error)
        if not self.closed.done():
            self.closed.set_result(None)

    def drop(self) -> None:
        """Reset the connection."""
        cast("asyncio.Transport", self.transport).abort()


def _welcome(_address: str) -> None:
    return None
