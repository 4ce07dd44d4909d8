"""The log on Apache Kafka: the only room that knows the client library."""
