"""The event log: its port, its implementations, the table of topics, the codec."""
