"""A conversation with the mail server, step by step, so that each failure has a meaning.

Until the body is handed over nothing was sent. After it, an answer says whether it was; no answer means that nobody
knows.
"""

import asyncio
from email.message import EmailMessage
from email.policy import default

import aiosmtplib
from aiosmtplib import SMTP, SMTPException, SMTPResponseException

from eventing import Overload, Permanent, Temporary
from mailer.settings import MailerSettings

_UTF8 = default.clone(utf8=True)
# Replies to MAIL that concern its size or its parameters. Every other one concerns the sender, which all mails share:
# no authentication, no storage, a sender that may not send. (RFC 5321, section 4.2.3.)
_THIS_MAIL = (552, 555)


class Ambiguous(Exception):
    """The server may or may not have taken the mail."""


class Server:
    """Connections to one mail server, reused; at most `smtp_connections`."""

    def __init__(self, settings: MailerSettings) -> None:
        self._settings = settings
        self._idle: list[SMTP] = []
        self._slots = asyncio.Semaphore(settings.smtp_connections)

    async def close(self) -> None:
        """Close what is open."""
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    async def send(self, mail: EmailMessage) -> None:
        """Hand one mail over.

        Raises:
            Permanent: the server refused this mail for good.
            Temporary: it refused this mail for now.
            Overload: the server is away or takes no mail at all.
            Ambiguous: the body was handed over and no answer came.
        """
        async with self._slots:
            connection = await self._envelope(mail)
            await self._data(connection, mail)
            self._idle.append(connection)

    async def _envelope(self, mail: EmailMessage) -> SMTP:
        """Name sender and recipient; a kept connection that has gone stale is replaced once."""
        while True:
            kept = self._idle.pop() if self._idle else None
            connection = kept or await self._connect()
            try:
                async with asyncio.timeout(self._settings.smtp_timeout / 2):
                    await _name(connection, mail)
            except SMTPResponseException as error:
                connection.close()
                raise _refusal(error) from error
            except (SMTPException, OSError, TimeoutError) as error:
                connection.close()
                if kept is None:
                    raise Overload(f"the mail server broke off: {_say(error)}") from error
            except BaseException:
                connection.close()
                raise
            else:
                return connection

    async def _connect(self) -> SMTP:
        s = self._settings
        connection = SMTP(
            hostname=s.smtp_host, port=s.smtp_port, timeout=s.smtp_timeout / 2, use_tls=s.smtp_security == "tls",
            start_tls=s.smtp_security == "starttls", username=s.smtp_username or None, password=s.smtp_password or None,
        )  # fmt: skip
        try:
            await connection.connect()
        except (SMTPException, OSError, TimeoutError) as error:
            connection.close()
            raise Overload(f"the mail server {s.smtp_host}:{s.smtp_port} does not answer: {_say(error)}") from error
        return connection

    async def _data(self, connection: SMTP, mail: EmailMessage) -> None:
        try:
            async with asyncio.timeout(self._settings.smtp_timeout / 2):
                await connection.data(mail.as_bytes(policy=default if _is_ascii(mail) else _UTF8))
        except SMTPResponseException as error:
            connection.close()
            raise _refusal(error) from error
        except (SMTPException, OSError, TimeoutError) as error:
            connection.close()
            raise Ambiguous(_say(error)) from error
        except BaseException:
            connection.close()
            raise


async def _name(connection: SMTP, mail: EmailMessage) -> None:
    """Name sender and recipient; addresses beyond ASCII need a server that takes them (SMTPUTF8, RFC 6531)."""
    options = [] if _is_ascii(mail) else ["SMTPUTF8"]
    if options and connection.is_ehlo_or_helo_needed:
        await connection.ehlo()
    if options and not connection.supports_extension("smtputf8"):
        raise Permanent("the mail server takes no address beyond ASCII (SMTPUTF8)")
    try:
        await connection.mail(str(mail["From"]), options=options, encoding="utf-8")
    except SMTPResponseException as error:
        if error.code in _THIS_MAIL:
            raise
        raise Overload(f"the mail server answered {error.code} {error.message} to our sender address") from error
    await connection.rcpt(str(mail["To"]), encoding="utf-8")


def _is_ascii(mail: EmailMessage) -> bool:
    return f"{mail['From']}{mail['To']}".isascii()


def _refusal(error: SMTPResponseException) -> Exception:
    """Translate a reply code (RFC 5321, section 4.2.1): 421 is the server, 4xx this mail for now, 5xx for good."""
    reply = f"the mail server answered {error.code} {error.message}"
    if error.code == aiosmtplib.SMTPStatus.domain_unavailable:
        return Overload(reply)
    return Permanent(reply) if error.code >= 500 else Temporary(reply)


def _say(error: BaseException) -> str:
    return str(error) or type(error).__name__
