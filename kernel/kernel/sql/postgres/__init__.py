"""The SQL port over PostgreSQL 14 or newer, by asyncpg: what the services of the cluster form share.

wording     shared SQL text as PostgreSQL reads it
failing     what a failure of driver or server means to callers of the port
lending     connections of a pool, handed on from call to call
database    `PostgresDatabase`: the port
signals     `PostgresSignals`: short messages between processes, by NOTIFY
"""

from kernel.sql.postgres.database import UNHURRIED, PostgresDatabase, Timeouts
from kernel.sql.postgres.signals import PostgresSignals

__all__ = ["UNHURRIED", "PostgresDatabase", "PostgresSignals", "Timeouts"]
