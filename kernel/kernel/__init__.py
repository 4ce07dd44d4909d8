"""The shared kernel: what is true in every service."""
