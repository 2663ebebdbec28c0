"""The code blocks of pykafka's announcement, on the in-memory broker; tests/python/kafka runs them on real Kafka."""


def test_the_blocks_run_as_they_stand(announcement, shared_broker):
    for block in announcement.BLOCKS:
        name = f"announced-{block.__name__}"
        shared_broker.create_topic(name, partitions=3, replication_factor=3)
        block(shared_broker.bootstrap_servers, name)
