"""Mail: one decision per event, template and recipient; doubt is counted, never hidden."""

from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from eventing import Database, Event, Overload, Permanent, Temporary
from eventing.migrate import migrate
from mailer.mail import Mail
from mailer.settings import MailerSettings


@pytest.fixture
async def db(database):
    url = await database()
    await migrate(url, "mailer")
    async with Database(url) as opened:
        yield opened


@pytest.fixture
async def send(db, mailbox):
    """Send the welcome of an event, as the handler does."""
    opened = []

    async def send(event, to="Ada@example.com", **settings):
        config = MailerSettings(smtp_host="127.0.0.1", smtp_port=mailbox.port, smtp_timeout=1, **settings)
        mail = Mail(db, config)
        opened.append(mail)
        await mail.send(event, "welcome", to=to, subject="Welcome", text="Hello")

    yield send
    for mail in opened:
        await mail.__aexit__()


def event(event_id="e1", **more):
    now = datetime.now(UTC)
    return Event(event_id, "t", "/s", "u1", b"{}", now, "user-events", 0, 0, **more)


async def intent(db):
    return await db.fetchrow("SELECT state, attempts, doubts FROM mail_intent")


async def test_a_mail_is_sent_once_however_often_its_event_comes(send, mailbox, db):
    for _ in range(3):
        await send(event())
    assert [mail.recipients for mail in mailbox.messages] == [("ada@example.com",)] or len(mailbox.messages) == 1
    assert tuple(await intent(db)) == ("sent", 1, 0)


async def test_its_message_id_follows_from_the_event(send, mailbox):
    await send(event())
    assert mailbox.messages[0].message["Message-ID"] == "<e1.welcome@example.com>"


async def test_a_suppressed_address_gets_no_mail(send, mailbox, db):
    await db.execute("INSERT INTO mail_suppression VALUES ('ada@example.com', 'asked for it')")
    await send(event())
    assert (mailbox.messages, (await intent(db))["state"]) == ([], "suppressed")


async def test_an_expired_event_sends_no_mail(send, mailbox, db):
    await send(event(expires=datetime.now(UTC) - timedelta(minutes=1)))
    assert (mailbox.messages, (await intent(db))["state"]) == ([], "expired")


async def test_a_mail_refused_for_now_is_sent_later(send, mailbox, db):
    mailbox.refuse("451 4.3.0 busy")
    with pytest.raises(Temporary, match="451"):
        await send(event())
    assert (await intent(db))["state"] == "pending"
    mailbox.refuse(None)
    await send(event())
    assert (len(mailbox.messages), (await intent(db))["state"]) == (1, "sent")


async def test_a_mail_refused_for_good_is_sent_when_its_event_is_redriven(send, mailbox, db):
    mailbox.refuse("550 5.1.1 no such user")
    with pytest.raises(Permanent, match="550"):
        await send(event())
    assert (await intent(db))["state"] == "refused"
    mailbox.refuse(None)
    await send(event())
    assert len(mailbox.messages) == 1


async def test_a_server_that_is_away_is_an_overload_and_nothing_was_sent(send, mailbox, db):
    await mailbox.stop()
    with pytest.raises(Overload, match="does not answer"):
        await send(event())
    assert (await intent(db))["state"] == "pending"
    await mailbox.resume()
    await send(event())
    assert len(mailbox.messages) == 1


async def test_a_server_that_takes_no_mail_at_all_is_an_overload(send, mailbox):
    mailbox.refuse("421 4.3.2 shutting down")
    with pytest.raises(Overload, match="421"):
        await send(event())


async def cut_before_answer(mailbox):
    async def cut(_mail):
        mailbox.before_answer = None
        mailbox.cut()

    mailbox.before_answer = cut


async def test_a_mail_without_an_answer_is_sent_again_and_counted(send, mailbox, db):
    await cut_before_answer(mailbox)
    with pytest.raises(Temporary, match="no answer"):
        await send(event())
    await send(event())
    state = await intent(db)
    assert (state["state"], state["doubts"]) == ("sent", 1)
    assert len({mail.message["Message-ID"] for mail in mailbox.messages}) == 1


async def test_a_mail_without_an_answer_is_held_when_so_configured(send, mailbox, db):
    await cut_before_answer(mailbox)
    await send(event(), when_ambiguous="hold")
    await send(event(), when_ambiguous="hold")
    state = await intent(db)
    assert (state["state"], state["doubts"], len(mailbox.messages)) == ("ambiguous", 1, 1)


async def test_a_decision_left_by_a_crash_is_taken_up_once_its_attempt_must_be_over(send, mailbox, db):
    await send(event())
    mailbox.messages.clear()
    await db.execute("UPDATE mail_intent SET state = 'sending', claimed_at = clock_timestamp()")
    with pytest.raises(Temporary, match="under way") as waits:
        await send(event())
    assert 0 < waits.value.delay <= 1.5
    await db.execute("UPDATE mail_intent SET claimed_at = clock_timestamp() - interval '2 seconds'")
    await send(event())
    state = await intent(db)
    assert (state["state"], state["doubts"], len(mailbox.messages)) == ("sent", 1, 1)


async def test_two_attempts_at_the_same_time_make_one_decision(db, mailbox, send):
    import asyncio

    results = await asyncio.gather(send(event()), send(event()), return_exceptions=True)
    assert len(mailbox.messages) == 1
    assert sorted(type(r).__name__ for r in results) in (["NoneType", "Temporary"], ["NoneType", "NoneType"])


async def test_a_state_that_does_not_exist_is_refused_by_the_table(db):
    with pytest.raises(asyncpg.CheckViolationError):
        await db.execute(
            "INSERT INTO mail_intent (event_id, template, recipient, state) VALUES ('e', 't', 'r', 'maybe')"
        )


async def test_what_the_server_said_is_recorded_once_the_database_is_back(send, mailbox, db, postgres):
    async def restart(_mail):
        mailbox.before_answer = None
        await postgres.restart()  # it goes away between the server's answer and our record of it

    mailbox.before_answer = restart
    await send(event())
    await send(event())
    state = await intent(db)
    assert (state["state"], state["doubts"], len(mailbox.messages)) == ("sent", 0, 1)


async def test_an_international_address_gets_its_mail(send, mailbox):
    await send(event(), to="zoë@münchen.example")
    assert mailbox.messages[0].recipients == ("zoë@münchen.example",)
    assert mailbox.messages[0].message["To"] == "zoë@münchen.example"


async def test_an_international_address_is_refused_for_good_by_a_server_that_takes_none(send, mailbox, db):
    async def greet(_server, session, _envelope, hostname, responses):
        session.host_name = hostname
        return [line for line in responses if "SMTPUTF8" not in line]

    mailbox.handle_EHLO = greet
    with pytest.raises(Permanent, match="SMTPUTF8"):
        await send(event(), to="zoë@example.com")
    assert tuple(await intent(db)) == ("refused", 1, 0)
    await send(event("e2"))
    assert len(mailbox.messages) == 1


async def test_a_sender_the_server_does_not_take_holds_every_mail_and_refuses_none(send, mailbox, db):
    async def refuse(*_):
        return "530 5.7.0 Authentication required"

    mailbox.handle_MAIL = refuse
    with pytest.raises(Overload, match="530"):
        await send(event())
    assert tuple(await intent(db)) == ("pending", 1, 0)
