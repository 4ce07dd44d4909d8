"""The event contract for outside subscribers, made from the topic table and the proto files."""
