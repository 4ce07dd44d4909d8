"""Public contracts: outside subscribers read these."""
