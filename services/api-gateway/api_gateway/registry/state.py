"""The registry's keyed map, and its two indexes: which remembered request falls due first, which jobs name a workflow.

Keys: `workflow/<id>`, `job/<id>`, `provider/<organization>/<slug>`, `health/<organization>/<slug>`, `connection/<id>`,
`request/<request id>`.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import islice, takewhile
from typing import Any

from kernel.domain.ids import JobId, OrganizationId, RequestId, WorkflowId
from kernel.domain.job import Job


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
        self._jobs_of: dict[WorkflowId, set[JobId]] = {}

    def get(self, key: str) -> Any | None:
        return self._values.get(key)

    def put(self, key: str, value: Any | None) -> None:
        old = self._values.get(key)
        if isinstance(old, Job):
            for workflow_id in old.workflow_ids:
                self._jobs_of[workflow_id].discard(old.id)
        if value is None:
            self._values.pop(key, None)
            return
        self._values[key] = value
        if isinstance(value, Job) and not value.deleted:
            for workflow_id in value.workflow_ids:
                self._jobs_of.setdefault(workflow_id, set()).add(value.id)
        if isinstance(value, RememberedRequest):
            insort(self._due, (value.expires_ms, key))

    def items(self) -> Iterator[tuple[str, Any]]:
        return iter(self._values.items())

    def jobs_of(self, workflow_id: WorkflowId) -> Collection[JobId]:
        """The jobs whose order names this workflow, deleted ones left out."""
        return self._jobs_of.get(workflow_id, ())

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
