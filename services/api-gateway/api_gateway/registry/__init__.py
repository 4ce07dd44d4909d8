"""The deciders of definitions: what is asked about workflows, jobs, providers and connections becomes facts. Pure."""
