"""Backup and restore of a cluster as one cut: Kafka, PostgreSQL and blobs of one moment, taken while it works."""
