"""Which topics a consumer reads: those of its events, and those through which its own come back to it."""

from eventing import retry_topic
from eventing.consumer import Consumer
from eventing.dead_letter import redrive_topic_of, topic_of


def all_topics(consumer: Consumer) -> list[str]:
    """Return every topic the group subscribes to."""
    back = [redrive_topic_of(topic, consumer.group) for topic in consumer.topics]
    return [*consumer.topics, *back, *retry_topics(consumer)]


def retry_topics(consumer: Consumer) -> list[str]:
    """Return the retry topics of the group, the shortest delay first."""
    return [retry_topic.topic_of(topic, consumer.group, tier) for topic in consumer.topics for tier in consumer.tiers]


def written_topics(consumer: Consumer) -> list[str]:
    """Return the topics the group writes to when events fail: without them it cannot go on."""
    return [*(topic_of(topic, consumer.group) for topic in consumer.topics), *retry_topics(consumer)]
