"""A member with a fixed identity: of two that have the same one, the older gives way instead of taking it back.

aiokafka 0.14 forgets who it was once it has been replaced, and joins as a newcomer, who replaces the other in turn, at
every heartbeat, for ever. So it asks to be let in again under the id it had: the broker refuses a member that was
replaced, and does not know one whose session is over, which may join anew.
"""

from typing import Any

from aiokafka import errors


class ReplacedError(errors.BrokerResponseError):  # type: ignore[misc]  # aiokafka is untyped
    """Another member has taken this one's fixed identity; aiokafka 0.14 has no name for it."""

    errno = 82
    message = "FENCED_INSTANCE_ID"


errors.kafka_errors.setdefault(ReplacedError.errno, ReplacedError)


class Identity:
    """Watches over the identity of one member."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.replaced = False

    def keep(self, coordinator: Any) -> None:
        """Let an aiokafka coordinator join under the id it had before."""
        join, known = coordinator._do_rejoin_group, ""  # noqa: SLF001  # nothing public leads there

        async def join_as_before(subscription: Any) -> Any:
            nonlocal known
            coordinator.member_id = coordinator.member_id or known
            try:
                return await join(subscription)
            except errors.KafkaError as error:
                self.replaced = ReplacedError.__name__ in str(error)  # aiokafka passes on its words alone
                raise
            finally:
                known = coordinator.member_id

        coordinator._do_rejoin_group = join_as_before  # noqa: SLF001  # see above
