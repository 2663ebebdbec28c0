"""Who a client is: the values of `KafkaClient(sasl=...)`.

None of them shows its password or token, and none can be pickled::

    client = pykafka.KafkaClient(
        "kafka-1:9093",
        ssl_config=pykafka.SslConfig("/etc/kafka/ca.pem"),
        sasl=pykafka.sasl.Scram("billing", lambda: vault.read("kafka")),
    )
"""

from ._engine import Gssapi, Mechanism, OAuthBearer, Plain, Scram

__all__ = ["Gssapi", "Mechanism", "OAuthBearer", "Plain", "Scram"]
