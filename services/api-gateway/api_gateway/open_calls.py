"""How many calls one organization has open at a time in this process, so that none takes the gateway for itself.

Streams (live events, downloads, long polls) may stay open for long and have a limit of their own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from kernel.domain.ids import OrganizationId
from kernel.errors import Rejected

RETRY_SECONDS = 1


class OpenCalls:
    """Counts per organization; one per process and kind of call. `most` 0 means no limit."""

    def __init__(self, what: str, most: int) -> None:
        self._what = what
        self._most = most
        self._open: Counter[OrganizationId] = Counter()

    def enter(self, organization: OrganizationId) -> Callable[[], None]:
        """Count one more; what is returned takes it back, to be called once. `rate_limited` when there are enough."""
        if self._most and self._open[organization] >= self._most:
            raise Rejected("rate_limited", f"the organization has {self._most} {self._what} open already")
        self._open[organization] += 1

        def leave() -> None:
            self._open[organization] -= 1
            if not self._open[organization]:
                del self._open[organization]

        return leave

    def count(self, organization: OrganizationId) -> int:
        """How many are open."""
        return self._open.get(organization, 0)
