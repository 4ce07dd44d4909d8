"""What people install: the typed client of a Towpath platform, and the command line `towpath`."""

from towpath.client import Client, each, find_run
from towpath.errors import (
    ApiError,
    BadAnswer,
    DamagedDownload,
    ErrorDetail,
    LogUnreachable,
    MissingApiKey,
    MissingExtra,
    TowpathError,
    Unreachable,
    Unreadable,
    WrongSetting,
)
from towpath.settings import Settings, from_environment
from towpath.transport import Surroundings
from towpath.watch import RunProgress, WorkflowProgress, watch

__all__ = [
    "ApiError",
    "BadAnswer",
    "Client",
    "DamagedDownload",
    "ErrorDetail",
    "LogUnreachable",
    "MissingApiKey",
    "MissingExtra",
    "RunProgress",
    "Settings",
    "Surroundings",
    "TowpathError",
    "Unreachable",
    "Unreadable",
    "WorkflowProgress",
    "WrongSetting",
    "each",
    "find_run",
    "from_environment",
    "watch",
]
