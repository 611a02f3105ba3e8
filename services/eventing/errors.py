"""Every error of the library. The docstring of a class is its default message.

Three of them are words a handler speaks: `Permanent`, `Temporary`, `Overload`.
"""

import inspect


class EventingError(Exception):
    """Something in the eventing library failed."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or inspect.cleandoc(self.__doc__ or ""))


class Permanent(EventingError):
    """This event can never be handled: dead-letter it now, without another attempt."""


class Temporary(EventingError):
    """This event failed for now: try it again later, blocking only its own key.

    Args:
        message: what failed; ends up in logs and, after the last attempt, in the dead letter.
        delay: seconds until the next attempt; None asks the consumer's wait strategy.
    """

    def __init__(self, message: str = "", *, delay: float | None = None) -> None:
        super().__init__(message)
        self.delay = delay


class Overload(EventingError):
    """A dependency is down: hold this consumer back, and count no attempt against the event."""


class Contended(EventingError):
    """Another transaction holds what this one needs: try again, and count no attempt, since the event is in order."""


class Unavailable(Overload):
    """A server this process depends on does not answer."""


class BadRecord(Permanent):
    """The record is not an event: its headers or its body cannot be read."""


class UnknownType(Permanent):
    """No contract describes this type of event; deploy the code that knows it, then redrive."""


class Parked(EventingError):
    """An earlier event of this key waits in the dead letters; redrive that one, and this one with it."""


class InvalidContract(EventingError):
    """The event breaks its contract and was refused before the commit."""


class StaleVersion(EventingError):
    """The aggregate already has an event of this or a later version."""


class UnknownSchema(EventingError):
    """The tables are not those this code was written for; run `eventing migrate`."""


class Misconfigured(EventingError):
    """A setting or a declaration is wrong; nothing was started."""


class SendFailed(EventingError):
    """The broker did not acknowledge the record.

    Args:
        message: what happened.
        final: True when sending the same record again can never succeed.
        reason: name of the broker's error.
        alone: True when the record itself is at fault, not its topic.
        records: how many records were sent together.
    """

    def __init__(
        self, message: str = "", *, final: bool = False, reason: str = "unknown", alone: bool = False, records: int = 1
    ) -> None:
        super().__init__(message)
        self.final = final
        self.reason = reason
        self.alone = alone
        self.records = records
