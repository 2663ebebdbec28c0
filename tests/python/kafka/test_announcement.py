"""The code blocks of pykafka's announcement on real Kafka."""


def test_the_blocks_run_as_they_stand(announcement, kafka):
    for block in announcement.BLOCKS:
        name = f"announced-{block.__name__}"
        kafka.create_topic(name, partitions=3)
        block(kafka.bootstrap, name)


def test_the_blocks_run_on_the_last_kafka_with_zookeeper_and_share_through_it(announcement, zookeeper_kafka):
    for block in announcement.BLOCKS:
        name = f"announced-{block.__name__}"
        zookeeper_kafka.create_topic(name, partitions=3)
        through = {"zookeeper_connect": zookeeper_kafka.zookeeper} if block is announcement.sharing else {}
        block(zookeeper_kafka.bootstrap, name, **through)


def test_a_client_finds_the_brokers_through_zookeeper(announcement, zookeeper_kafka):
    client = announcement.KafkaClient("127.0.0.1:1", zookeeper_hosts=zookeeper_kafka.zookeeper)
    assert {f"{broker.host.decode()}:{broker.port}" for broker in client.brokers.values()} == set(
        zookeeper_kafka.brokers.values()
    )
