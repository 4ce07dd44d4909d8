"""The artifact store: keeps bytes and secrets behind gRPC, and writes no fact."""
