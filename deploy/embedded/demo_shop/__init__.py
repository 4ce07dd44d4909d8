"""A small web shop on loopback, for the first run and for tests; it knows nothing of Towpath."""
