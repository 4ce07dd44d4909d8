"""Generated messages: what crosses a process border. Never edited; `make protos` writes it."""
