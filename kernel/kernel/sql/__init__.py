"""The SQL seam of the read models: a port, its migrations, and one file per database."""
