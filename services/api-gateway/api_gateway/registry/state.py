"""The registry's keyed map, and the one index it needs: which remembered request falls due first.

Keys: `workflow/<id>`, `job/<id>`, `provider/<organization>/<slug>`, `connection/<id>`, `request/<request id>`.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, takewhile
from typing import Any

from kernel.domain.ids import OrganizationId, RequestId


@dataclass(frozen=True, slots=True)
class RememberedRequest:
    """A request that was decided; forgotten at `expires_ms`."""

    request_id: RequestId
    organization_id: OrganizationId
    expires_ms: int


class RegistryState:
    """The map of one partition. Requests fall due nearly in the order they come, so the index is a sorted list."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}
        self._due: list[tuple[int, str]] = []

    def get(self, key: str) -> Any | None:
        return self._values.get(key)

    def put(self, key: str, value: Any | None) -> None:
        if value is None:
            self._values.pop(key, None)
            return
        self._values[key] = value
        if isinstance(value, RememberedRequest):
            insort(self._due, (value.expires_ms, key))

    def items(self) -> Iterator[tuple[str, Any]]:
        return iter(self._values.items())

    def due_ms(self) -> int | None:
        gone = 0
        while gone < len(self._due) and not self._stands(*self._due[gone]):
            gone += 1
        del self._due[:gone]
        return self._due[0][0] if self._due else None

    def due_requests(self, now_ms: int, limit: int) -> list[RememberedRequest]:
        """Up to `limit` remembered requests whose time is over at `now_ms`, oldest first. Changes nothing."""
        over = takewhile(lambda entry: entry[0] <= now_ms, self._due)
        keys = dict.fromkeys(key for expires_ms, key in over if self._stands(expires_ms, key))
        return [self._values[key] for key in islice(keys, limit)]

    def _stands(self, expires_ms: int, key: str) -> bool:
        value = self._values.get(key)
        return isinstance(value, RememberedRequest) and value.expires_ms == expires_ms
