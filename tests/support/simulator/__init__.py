"""The platform in one process and virtual time: real deciders, owning loop and fence; model runners and world."""
