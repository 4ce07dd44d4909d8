"""The step language: the `stepsJson` document, its expressions and templates, and what is checked when it is saved."""
