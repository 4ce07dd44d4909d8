"""Real servers as local processes: Apache Kafka, PostgreSQL and an S3 server, for `make up` and for tests.

Each is started, stopped, killed, paused and resumed by plain calls that block, keeps what it has in one folder, writes
what it says to a file there, and is killed by the kernel when the process that started it dies. Linux only.
"""
