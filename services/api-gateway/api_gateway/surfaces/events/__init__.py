"""`/events`: the event contract for outside subscribers, as files that the proto files and the topic table make."""
