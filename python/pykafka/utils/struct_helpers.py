"""A module of pykafka 2 that can no longer be imported; the error says why."""

raise ImportError(
    "pykafka.utils.struct_helpers does not exist in pykafka 3: it read the bytes of Kafka's protocol, which the engine "
    "speaks now; use the standard module struct for bytes of your own",
    name=__name__,
)
