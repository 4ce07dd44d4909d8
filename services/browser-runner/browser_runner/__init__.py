"""The runner: takes a task, carries out its steps in a real browser, reports."""
