"""The gateway: REST in, requests to the deciders, read models out; and the registry of definitions."""
