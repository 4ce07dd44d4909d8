"""The REST vocabularies, one folder each: shapes and words of its own, and no logic."""
