"""The Kafka edge: records in, offsets, results and dead letters out. Owns confluent_kafka."""
