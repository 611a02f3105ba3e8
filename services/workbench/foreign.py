"""A client that knows nothing of us: kafka-python, bare JSON, no key, no headers, as in the note we answer."""

import json
import sys

from kafka import KafkaConsumer, KafkaProducer

TOPIC = "user-events"


def produce(bootstrap: str) -> None:
    """Send one event and print where it went."""
    producer = KafkaProducer(bootstrap_servers=bootstrap, value_serializer=lambda v: json.dumps(v).encode())
    sent = producer.send(TOPIC, value={"userId": 123, "action": "registered"}).get(timeout=10)
    producer.close()
    print(json.dumps({"partition": sent.partition, "offset": sent.offset}))


def consume(bootstrap: str) -> None:
    """Print every event of the topic, as the note's consumer would see it."""
    consumer = KafkaConsumer(
        TOPIC,
        bootstrap_servers=bootstrap,
        value_deserializer=json.loads,
        auto_offset_reset="earliest",
        consumer_timeout_ms=1000,
    )
    for msg in consumer:
        print(json.dumps({"userId": msg.value["userId"], "action": msg.value["action"]}))
    consumer.close()


if __name__ == "__main__":
    {"produce": produce, "consume": consume}[sys.argv[1]](sys.argv[2])
