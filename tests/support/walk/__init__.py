"""The small-scope walk over the real deciders: every interleaving of a small platform, breadth first."""
