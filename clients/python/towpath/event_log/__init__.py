"""The event log for subscribers: records decoded, sealed values opened. Needs the extra `towpath[kafka]`."""
