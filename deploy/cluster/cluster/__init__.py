"""The cluster form on one machine: broker, PostgreSQL, an S3 server and two of each service as local processes."""
