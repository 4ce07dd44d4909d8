"""What may happen: the aggregates of Towpath as pure functions over frozen dataclasses."""
