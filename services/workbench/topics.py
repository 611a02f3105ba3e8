"""Topics of a local run."""

import asyncio
from collections.abc import Mapping

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, for_code

_PAUSE = 0.02


async def ensure_topics(
    bootstrap: str,
    partitions: Mapping[str, int],
    configs: Mapping[str, str] | None = None,
    *,
    seconds: float = 15,
) -> None:
    """Create the topics which are not there, and wait until every partition has a leader.

    Args:
        bootstrap: Address of the broker.
        partitions: Number of partitions by topic.
        configs: Settings of every new topic.
        seconds: The bound of the wait.

    Raises:
        aiokafka.errors.KafkaError: The broker refused a topic.
        TimeoutError: A partition has no leader in time.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await _create(admin, partitions, dict(configs or {}))
        async with asyncio.timeout(seconds):
            while not await _complete(admin, partitions):  # noqa: ASYNC110 - the broker has no event to wait for
                await asyncio.sleep(_PAUSE)
    finally:
        await admin.close()


async def _create(admin: AIOKafkaAdminClient, partitions: Mapping[str, int], configs: dict[str, str]) -> None:
    topics = [NewTopic(name, count, 1, topic_configs=configs) for name, count in partitions.items()]
    response = await admin.create_topics(topics)
    for topic, code, *message in response.topic_errors:
        if code not in (0, TopicAlreadyExistsError.errno):
            raise for_code(code)(f"topic {topic}: {' '.join(map(str, message))}")


async def _complete(admin: AIOKafkaAdminClient, partitions: Mapping[str, int]) -> bool:
    topics = await admin.describe_topics(list(partitions))
    led = {topic["topic"]: sum(partition["leader"] >= 0 for partition in topic["partitions"]) for topic in topics}
    return all(led.get(name, 0) >= count for name, count in partitions.items())
