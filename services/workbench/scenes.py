"""The scenes of the demo, in the order of the flow; each one does something, shows it, and checks it."""

import asyncio
import json
import sys
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table
from valkey.asyncio import Valkey

from contracts.users import CACHE, TOPIC
from eventing.dead_letter import topic_of
from eventing.dead_letter_queue import DeadLetterQueue
from eventing.letter import DeadLetter
from eventing.settings import Settings
from workbench.checks import Checks
from workbench.fleet import GROUPS, Fleet
from workbench.records import read_topic
from workbench.stack import Stack

PEOPLE = ("Ada Lovelace", "Grace Hopper", "Edsger Dijkstra", "Barbara Liskov", "Leslie Lamport")
LATECOMERS = ("Katherine Johnson", "Alan Turing", "Radia Perlman")
POISONED = "Linus Busy"

WITHIN = 15.0  # seconds for something to arrive


class Scenes:
    """One run of the demo: what it touched, and what it counted."""

    def __init__(self, stack: Stack, fleet: Fleet, console: Console) -> None:
        self.stack, self.fleet, self.console = stack, fleet, console
        self.checks = Checks(console)
        self.accepted = self.redriven = 0
        self.dead_lettered = 0
        self.poisoned_event = ""
        self.users: dict[str, dict[str, Any]] = {}
        self._accounts = httpx.AsyncClient(base_url=fleet.url("accounts-api"), timeout=WITHIN)
        self._analytics = httpx.AsyncClient(base_url=fleet.url("analytics-api"), timeout=WITHIN)

    async def play(self) -> None:
        """Play every scene. One that breaks off is a failed check, and the last: the others build on it."""
        scenes = (
            self.register, self.mails, self.change, self.statistics,
            self.resume, self.poison, self.redrive, self.foreign,
        )  # fmt: skip
        try:
            for scene in scenes:
                await scene()
        except Exception as error:  # whatever it was: the run goes on to what it found
            self.checks.that(f"the scene {scene.__name__} ends", ok=False, detail=f"{type(error).__name__}: {error}")
        finally:
            await self._accounts.aclose()
            await self._analytics.aclose()

    def _title(self, text: str) -> None:
        self.console.print(f"\n[bold]{text}[/bold]")

    async def _register(self, name: str) -> dict[str, Any]:
        email = f"{name.split(maxsplit=1)[0].lower()}@example.com"
        answer = await self._accounts.post("/users", json={"name": name, "email": email})
        answer.raise_for_status()
        self.accepted += 1
        self.users[name] = answer.json()
        return self.users[name]

    async def register(self) -> None:
        """Register users over HTTP: the request returns when row and event are committed."""
        self._title("1  HTTP → outbox → relay → Kafka: registering users")
        for name in PEOPLE:
            user = await self._register(name)
            self.console.print(f"  201 {name} [dim]user {user['userId']} event {user['eventId']}[/dim]")
        bodies = [json.loads(r.value) for r in await self._records(TOPIC, len(PEOPLE))]
        self.console.print(f"  on the wire: {json.dumps(bodies[0])}", highlight=False, markup=False)
        self.checks.equal("every registration is one event on Kafka", len(bodies), len(PEOPLE))
        self.checks.that("bodies carry userId and action", all({"userId", "action"} <= body.keys() for body in bodies))

    async def mails(self) -> None:
        """Show the mails that the mailer sent."""
        self._title("2  consumer → handler → effect: mail")
        mails = await self.stack.mailbox.received(len(PEOPLE), WITHIN)
        for mail in mails:
            self.console.print(f"  mail to {mail.message['To']}: {mail.message['Subject']}", highlight=False)
        self.checks.equal(
            "every user got one mail",
            sorted(m.recipients[0] for m in mails),
            sorted(u["email"] for u in self.users.values()),
        )

    async def change(self) -> None:
        """Change one user and delete another; the cache follows by version."""
        self._title("3  one user changes, one leaves: the cache")
        ada, leslie = self.users["Ada Lovelace"], self.users["Leslie Lamport"]
        path = f"/users/{ada['userId']}"
        await self._accounts.get(path)
        before = await self._cached(ada["userId"])
        (await self._accounts.patch(path, json={"name": "Ada King"})).raise_for_status()
        gone = await self._until(lambda: self._outdated(ada["userId"]))
        answer = (await self._accounts.get(path)).json()
        after = await self._cached(ada["userId"])
        self.console.print(f"  cached before: {before}\n  cached after:  {after}", highlight=False, markup=False)
        self.checks.that("the change outdated the cached profile", before and gone and "Ada King" in str(after))
        self.checks.equal("readers see the new name", answer["name"], "Ada King")
        deleted = await self._accounts.delete(f"/users/{leslie['userId']}")
        missing = await self._accounts.get(f"/users/{leslie['userId']}")
        self.checks.equal("a deleted user is gone", (deleted.status_code, missing.status_code), (204, 404))

    async def statistics(self) -> None:
        """Read the statistics that analytics keeps."""
        self._title("4  read models: statistics")
        expected = {"activeUsers": len(PEOPLE) - 1, "events": len(PEOPLE) + 2}
        stats = await self._until(lambda: self._stats(expected)) or (await self._analytics.get("/stats")).json()
        self.console.print(f"  GET /stats → {json.dumps(stats)}", highlight=False, markup=False)
        self.checks.equal("statistics count every event", {k: stats[k] for k in expected}, expected)
        history = (await self._analytics.get(f"/users/{self.users['Ada Lovelace']['userId']}/history")).json()
        actions = [entry["type"].split(".")[-2] for entry in history["entries"]]
        self.checks.equal("the audit log knows Ada's history", sorted(actions), ["registered", "updated"])

    async def resume(self) -> None:
        """Stop the mailer, register more, start it: it goes on where it was."""
        self._title("5  the mailer stops; registrations do not")
        await self.fleet.stop("mailer")
        had = len(self.stack.mailbox.messages)
        for name in LATECOMERS:
            await self._register(name)
        self.checks.equal(
            f"{len(LATECOMERS)} registrations accepted without a mailer, no mail sent",
            len(self.stack.mailbox.messages),
            had,
        )
        await self.fleet.start(["mailer"])
        mails = await self.stack.mailbox.received(had + len(LATECOMERS), WITHIN)
        self.checks.equal("it resumed at its offset: every mail once", len(mails), had + len(LATECOMERS))

    async def poison(self) -> None:
        """One address the mail server refuses: retried, then dead-lettered with the reason, bytes untouched."""
        self._title("6  one poisoned event: retried, then dead-lettered")
        self.stack.mailbox.refuse(lambda address: "451 4.3.0 mailbox busy" if address.startswith("linus@") else None)
        self.poisoned_event = (await self._register(POISONED))["eventId"]
        letter = (await self._letters("mailer", 1))[0]
        self._show(letter)
        known = letter.known
        source = next(
            r
            for r in await self._records(TOPIC, self.accepted + 2)
            if dict(r.headers)["ce_id"] == self.poisoned_event.encode()
        )
        self.checks.that("it was tried more than once", int(known["x-attempt"]) > 1, f"{known['x-attempt']} attempts")
        self.checks.that(
            "the dead letter says why", "mailbox busy" in known["x-error-message"], known["x-error-message"]
        )
        self.checks.that("key, body and CloudEvents headers are untouched", _untouched(letter, source))

    async def redrive(self) -> None:
        """Repair the cause and send the dead letter back to the mailer alone."""
        self._title("7  the cause is repaired: redrive")
        had = len(self.stack.mailbox.messages)
        self.stack.mailbox.refuse(None)
        said = await self._eventing("dlq", "redrive", topic_of(TOPIC, "mailer"))
        self.console.print(
            f"  $ eventing dlq redrive {topic_of(TOPIC, 'mailer')}\n  {said.strip()}", highlight=False, markup=False
        )
        mails = await self.stack.mailbox.received(had + 1, WITHIN)
        self.redriven = 1
        self.checks.equal("its mail arrived", mails[-1].recipients[0], "linus@example.com")
        sent, users = [m.recipients[0] for m in mails], [u["email"] for u in self.users.values()]
        self.checks.that("every registration has its mail, none has two", sorted(sent) == sorted(users), len(sent))
        self.checks.equal("no dead letter waits any more", len(await self._letters("mailer", 0)), 0)

    async def foreign(self) -> None:
        """A kafka-python producer and consumer that know nothing of us."""
        self._title("8  a foreign client: kafka-python, bare JSON, no headers")
        before = (await self._analytics.get("/stats")).json()["events"]
        await self._remember("123")
        place = json.loads(await self._foreign("produce"))
        letter = (await self._letters("mailer", 1))[0]
        self._show(letter)
        self.checks.that(
            "the mailer dead-letters it: it names no address",
            "email" in letter.known["x-error-message"],
            letter.known["x-error-message"],
        )
        self.checks.equal("the dead letter names its origin", int(letter.known["x-origin-offset"]), place["offset"])
        stats = await self._until(lambda: self._stats({"events": self.accepted + 3}))
        self.checks.that("analytics understands it", stats, f"{before} → {self.accepted + 3} events")
        self.checks.that(
            "the cache understands it: what was cached is gone", await self._until(lambda: self._outdated("123"))
        )
        seen = await self._foreign("consume")
        actions = sorted(json.loads(line)["action"] for line in seen.splitlines())
        expected = ["deleted", *["registered"] * (self.accepted + 1), "updated"]
        self.checks.equal("a kafka-python consumer understands every event of ours", actions, expected)

    async def count_dead_letters(self) -> None:
        """Count everything that was ever dead-lettered."""
        topics = [topic_of(TOPIC, group) for group in GROUPS]
        self.dead_lettered = sum([len(await read_topic(self.stack.broker.bootstrap, topic)) for topic in topics])

    def _show(self, letter: DeadLetter) -> None:
        table = Table("header", "value", box=None, padding=(0, 1), show_header=False)
        for name in ("x-disposition", "x-attempt", "x-error-type", "x-error-message", "x-origin-offset"):
            table.add_row(f"  {name}", letter.known[name])
        self.console.print(table)

    async def _records(self, topic: str, count: int) -> list[Any]:
        async def enough() -> list[Any] | None:
            found = await read_topic(self.stack.broker.bootstrap, topic)
            return found if len(found) >= count else None

        return await self._until(enough) or []

    async def _letters(self, group: str, count: int) -> list[DeadLetter]:
        """Return the dead letters that wait, once there are at least `count`."""
        settings = Settings(kafka_bootstrap=self.stack.broker.bootstrap)

        async def enough() -> list[DeadLetter] | None:
            async with DeadLetterQueue.open(topic_of(TOPIC, group), settings) as queue:
                found = [letter async for letter in queue.letters()]
            return found if len(found) >= count else None

        found: list[DeadLetter] | None = await self._until(enough)
        if found is None:
            raise TimeoutError(f"fewer than {count} dead letters of {group} after {WITHIN:g} s")
        return found

    async def _stats(self, expected: dict[str, int]) -> dict[str, Any] | None:
        stats: dict[str, Any] = (await self._analytics.get("/stats")).json()
        return stats if all(stats[k] == v for k, v in expected.items()) else None

    async def _entry(self, user_id: str) -> dict[bytes, bytes]:
        async with Valkey.from_url(self.stack.valkey.url) as valkey:
            found: dict[bytes, bytes] = await valkey.hgetall(f"{CACHE}:{{{user_id}}}")
        return found

    async def _cached(self, user_id: str) -> str | None:
        body = (await self._entry(user_id)).get(b"body")
        return body.decode() if body else None

    async def _outdated(self, user_id: str) -> bool:
        return b"body" not in await self._entry(user_id)

    async def _remember(self, user_id: str) -> None:
        async with Valkey.from_url(self.stack.valkey.url) as valkey:
            await valkey.hset(f"{CACHE}:{{{user_id}}}", "body", "{}")

    async def _until(self, probe: Any) -> Any:
        """Return the first true answer of `probe`, None when there is none in time."""
        deadline = asyncio.get_running_loop().time() + WITHIN
        while asyncio.get_running_loop().time() < deadline:
            if (found := await probe()) not in (None, False):
                return found
            await asyncio.sleep(0.05)
        return None

    async def _foreign(self, mode: str) -> str:
        """Run the note's client; its plain serializers are deprecated in kafka-python 3 and still what people write."""
        quiet = ("-W", "ignore::DeprecationWarning")
        return await self._python(*quiet, "-m", "workbench.foreign", mode, self.stack.broker.bootstrap)

    async def _eventing(self, *arguments: str) -> str:
        return await self._python("-m", "eventing.cli", *arguments)

    async def _python(self, *arguments: str) -> str:
        return await self.fleet.run([sys.executable, *arguments])


def _untouched(letter: DeadLetter, source: Any) -> bool:
    kept = [pair for pair in letter.record.headers if pair[0].startswith("ce_") or pair[0] == "content-type"]
    came = [pair for pair in source.headers if pair[0].startswith("ce_") or pair[0] == "content-type"]
    return letter.record.key == source.key and letter.record.value == source.value and sorted(kept) == sorted(came)
