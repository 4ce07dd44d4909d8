"""The scheduler: it advances runs through their order and hands their tasks to runners."""
