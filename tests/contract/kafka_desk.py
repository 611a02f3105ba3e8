"""A real broker, and a real database where a consumer needs one."""

import asyncio
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, RecordsToDelete
from tests.contract.desk import PARTITIONS, Desk, topics_of

from eventing.dead_letter_queue import DeadLetterQueue
from eventing.letter_filter import Filter
from eventing.producer import Producer
from eventing.provide import provide as open_resources
from eventing.redrive import Redrive, plan
from eventing.runtime import Runtime
from eventing.settings import Settings
from workbench.records import read_topic
from workbench.topics import ensure_topics


class KafkaDesk(Desk):
    """Kafka and PostgreSQL; one broker and one database for all tests, topics and groups for each."""

    tier = 1
    patience = 1.0

    def __init__(self, topic, other, bootstrap, database, loop):
        super().__init__(topic, other)
        self.bootstrap, self.database, self._loop = bootstrap, database, loop
        self.settings = Settings(kafka_bootstrap=bootstrap, database_url=database, consumer_session_timeout=6)
        self._made = set()
        self._producer = Producer(self.settings)

    def run(self, work):
        self._loop.run_until_complete(self._closing(work))

    async def _closing(self, work):
        async with self._producer:
            await work

    @asynccontextmanager
    async def running(self, consumer, *, provide=None, **settings):
        await self._make(topics_of(consumer))
        config, stop = self.settings.model_copy(update=settings), asyncio.Event()
        async with Producer(config) as producer, open_resources(consumer, config, provide) as provided:
            runtime = Runtime(consumer, config, producer, provided)
            task = asyncio.create_task(runtime.run(stop))
            try:
                yield runtime
            finally:
                stop.set()
                await task

    async def create(self, *topics):
        self.withheld -= {*topics}
        await self._make(topics)

    async def _make(self, topics):
        missing = {*topics} - self.withheld - self._made
        if missing:
            await ensure_topics(self.bootstrap, dict.fromkeys(missing, PARTITIONS))
            self._made |= missing

    async def limit(self, topic, size):
        await ensure_topics(self.bootstrap, {topic: PARTITIONS}, {"max.message.bytes": str(size)})
        self._made.add(topic)

    async def send(self, value, *, key=None, headers=(), partition=None, topic=None):
        topic = topic or self.topic
        await self._make([topic])
        await self._producer.send(topic, value, key=key, headers=list(headers), partition=partition)

    async def records(self, topic):
        return await read_topic(self.bootstrap, topic)

    async def committed(self):
        async with self._admin() as admin:
            found = await admin.list_consumer_group_offsets(self.group)
        return {(tp.topic, tp.partition): (known.offset, known.metadata) for tp, known in found.items()}

    @asynccontextmanager
    async def _admin(self):
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        try:
            yield admin
        finally:
            await admin.close()

    async def redrive(self):
        async with DeadLetterQueue.open(self.dlq, self.settings) as queue:
            await Redrive(queue, self._producer, rate=10_000).run(await plan(queue, Filter()))

    async def pretend_committed(self, offset, note="", partitions=range(PARTITIONS)):
        async with AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap, group_id=self.group, enable_auto_commit=False
        ) as member:
            places = [TopicPartition(self.topic, number) for number in partitions]
            member.assign(places)
            await member.commit(dict.fromkeys(places, (offset, note)))

    async def grow(self):
        async with self._admin() as admin:
            await admin.create_partitions({self.topic: NewPartitions(PARTITIONS + 1)})

    async def expire(self, partition, before):
        async with self._admin() as admin:
            await admin.delete_records({TopicPartition(self.topic, partition): RecordsToDelete(before)})

    async def gap(self, partition):
        async with AIOKafkaProducer(bootstrap_servers=self.bootstrap, transactional_id=self.topic) as producer:
            await producer.begin_transaction()
            await producer.send_and_wait(self.topic, b"never seen", partition=partition)
            await producer.abort_transaction()

    async def ends(self):
        async with AIOKafkaConsumer(bootstrap_servers=self.bootstrap, isolation_level="read_committed") as reader:
            places = [TopicPartition(self.topic, number) for number in range(PARTITIONS)]
            return sum((await reader.end_offsets(places)).values())
