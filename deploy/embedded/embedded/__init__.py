"""All services in one process, over one folder: what `make run` starts."""
