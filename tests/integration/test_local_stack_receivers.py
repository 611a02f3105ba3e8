"""The mail catcher, the span receiver and the cache server."""

import asyncio
from email.message import EmailMessage

import aiosmtplib
import pytest
import valkey.asyncio
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, SpanKind, Status, StatusCode

from workbench.mailbox import Mailbox
from workbench.spans import SpanReceiver
from workbench.valkey import Valkey


def mail(number: int, to: str = "ada@example.com") -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "us@example.com", to, f"Wëlcome {number}"
    message["Message-ID"] = f"<{number}@example.com>"
    message.set_content("Hello.\n")
    return message


async def send(mailbox: Mailbox, *mails: EmailMessage) -> None:
    client = aiosmtplib.SMTP(hostname="127.0.0.1", port=mailbox.port, timeout=10)
    async with client:
        for each in mails:
            await client.send_message(each)


async def test_a_mail_arrives_parsed_with_its_recipients(mailbox: Mailbox):
    await send(mailbox, mail(1))
    [received] = await mailbox.received(1)
    assert received.message["Subject"] == "Wëlcome 1"
    assert received.message.get_content() == "Hello.\n"
    assert received.recipients == ("ada@example.com",)


async def test_a_refusal_reaches_the_client_until_it_is_lifted(mailbox: Mailbox):
    mailbox.refuse("451 4.3.0 busy")
    with pytest.raises(aiosmtplib.SMTPRecipientsRefused) as refused:
        await send(mailbox, mail(1))
    assert refused.value.recipients[0].code == 451
    mailbox.refuse(None)
    await send(mailbox, mail(1))
    assert len(await mailbox.received(1)) == 1


async def test_a_refusal_may_depend_on_the_address(mailbox: Mailbox):
    mailbox.refuse(lambda address: "550 5.1.1 nobody here" if address.startswith("bob") else None)
    with pytest.raises(aiosmtplib.SMTPRecipientsRefused):
        await send(mailbox, mail(1, to="bob@example.com"))
    await send(mailbox, mail(2))
    [received] = await mailbox.received(1)
    assert received.message["Message-ID"] == "<2@example.com>"


async def test_a_stopped_mailbox_refuses_connections_and_resumes_on_its_port(mailbox: Mailbox):
    await send(mailbox, mail(1))
    await mailbox.stop()
    with pytest.raises(aiosmtplib.SMTPConnectError):
        await send(mailbox, mail(2))
    await mailbox.resume()
    await send(mailbox, mail(3))
    assert len(await mailbox.received(2)) == 2


async def test_a_stop_drops_a_connection_in_use(mailbox: Mailbox):
    client = aiosmtplib.SMTP(hostname="127.0.0.1", port=mailbox.port, timeout=10)
    await client.connect()
    await mailbox.stop()
    with pytest.raises(aiosmtplib.SMTPServerDisconnected):
        await client.send_message(mail(1))
    assert mailbox.messages == []


async def test_a_client_can_be_cut_off_after_its_mail_was_taken(mailbox: Mailbox):
    async def cut(_mail: object) -> None:
        mailbox.cut()

    mailbox.before_answer = cut
    with pytest.raises(aiosmtplib.SMTPServerDisconnected):
        await send(mailbox, mail(1))
    assert len(await mailbox.received(1)) == 1


async def test_duplicates_are_counted_by_message_id(mailbox: Mailbox):
    await send(mailbox, mail(1), mail(2), mail(1))
    assert mailbox.duplicates() == {"<1@example.com>": 2}


async def test_too_few_mails_are_reported_with_their_number(mailbox: Mailbox):
    await send(mailbox, mail(1))
    with pytest.raises(TimeoutError, match="1 of 2 mails"):
        await mailbox.received(2, timeout=0.05)


async def test_thousands_of_mails_are_taken(mailbox: Mailbox):
    async def send_some(start: int) -> None:
        async with aiosmtplib.SMTP(hostname="127.0.0.1", port=mailbox.port) as client:
            for number in range(start, 5000, 10):
                raw = f"From: us@example.com\r\nMessage-ID: <{number}@example.com>\r\n\r\nHello.\r\n"
                await client.sendmail("us@example.com", [f"user-{number}@example.com"], raw)

    await asyncio.gather(*map(send_some, range(10)))
    assert len(await mailbox.received(5000, timeout=1)) == 5000
    assert not mailbox.duplicates()


@pytest.mark.parametrize("compression", list(Compression))
async def test_spans_of_a_real_exporter_are_received(spans: SpanReceiver, compression: Compression):
    exporter = OTLPSpanExporter(f"{spans.endpoint}/v1/traces", compression=compression)
    provider = TracerProvider(resource=Resource({"service.name": "mailer"}))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    with tracer.start_as_current_span("origin") as origin:
        pass
    attributes = {"text": "a", "number": 1, "ratio": 0.5, "yes": True, "list": ("a", "b")}
    links = [Link(origin.get_span_context(), {"why": "retry"})]
    with (
        tracer.start_as_current_span("outer", kind=SpanKind.CONSUMER, links=links) as outer,
        tracer.start_as_current_span("inner", attributes=attributes) as inner,
    ):
        inner.set_status(Status(StatusCode.ERROR))
    await asyncio.to_thread(provider.shutdown)

    parent = await spans.seen(lambda span: span.name == "outer")
    child = await spans.seen(lambda span: span.parent_id == parent.span_id)
    assert (child.name, child.service, child.status_error) == ("inner", "mailer", True)
    assert child.attributes == {**attributes, "list": ["a", "b"]}
    assert child.trace_id == parent.trace_id == f"{outer.get_span_context().trace_id:032x}"
    assert parent.start_ns <= child.start_ns <= child.end_ns <= parent.end_ns
    assert (parent.kind, parent.parent_id, parent.status_error) == ("consumer", "", False)
    assert [(link.span_id, link.attributes) for link in parent.links] == [
        (f"{origin.get_span_context().span_id:016x}", {"why": "retry"})
    ]


async def test_a_missing_span_is_reported_with_the_names_that_came(spans: SpanReceiver):
    with pytest.raises(TimeoutError, match=r"there were \[\]"):
        await spans.seen(lambda _span: True, timeout=0.05)


async def test_a_restarted_cache_is_empty_and_on_the_same_address(valkey: Valkey):
    client = valkey_client(valkey)
    await client.set("key", "value")
    assert await client.get("key") == b"value"
    await client.aclose()
    await valkey.restart()
    client = valkey_client(valkey)
    assert await client.get("key") is None
    await client.aclose()
    await valkey.kill()
    await valkey.resume()


def valkey_client(server: Valkey) -> valkey.asyncio.Valkey:
    return valkey.asyncio.Valkey.from_url(server.url)
