"""What stands in for a log and a store: in memory, so that a test can hold back, fail, count and look into everything.

For tests of what has no part in them, at the levels `unit` and `contract`. Services that are tested together, faults
and the bench meet what a customer has.
"""
