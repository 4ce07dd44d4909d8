"""Inputs that are artifacts: a caller names them by id, a run gets what the id stands for.

Only here is an id looked up, among the artifacts of the caller's own organization. The runner hands on nothing that did
not come through here or out of its own steps, so nobody reaches bytes by knowing their digest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kernel.domain.ids import OrganizationId, SubjectId
from kernel.domain.values import Sealed
from kernel.errors import Detail, Rejected, SecretUnavailable
from kernel.sealing import Sealer
from kernel.sql.port import Database

FILES_MAX = 50
"""Of one input."""

_FIND = "SELECT subject_id, display_name, sha256, mime_type, size FROM artifacts WHERE id = ? AND organization_id = ?"


@dataclass(slots=True)
class ArtifactInputs:
    """Resolves the inputs of one request; faults are told together."""

    db: Database
    sealer: Sealer
    organization_id: OrganizationId
    faults: list[Detail] = field(default_factory=list)

    async def resolved(self, inputs: Mapping[str, Any], names: frozenset[str], base: str) -> dict[str, Any]:
        """`inputs` with those called `names` replaced: an id by `artifactId`, `name`, `sha256`, `type`, `size`.

        A list of ids becomes a list. `Rejected("inputs_invalid")` with a pointer below `base` to each id that names no
        artifact of this organization (`not_found`).
        """
        found = dict(inputs)
        for name in sorted(names & inputs.keys()):
            pointer = f"{base}/{name.replace('~', '~0').replace('/', '~1')}"
            value = inputs[name]
            if isinstance(value, list):
                if len(value) > FILES_MAX:
                    self._fault(pointer, "inputs_invalid", f"holds more than {FILES_MAX} artifacts")
                    continue
                found[name] = [await self._file(f"{pointer}/{index}", one) for index, one in enumerate(value)]
            elif value is not None:
                found[name] = await self._file(pointer, value)
        if self.faults:
            raise Rejected("inputs_invalid", "inputs name artifacts that are not there", tuple(self.faults))
        return found

    async def _file(self, pointer: str, id_: Any) -> dict[str, Any] | None:
        if not isinstance(id_, str):
            self._fault(pointer, "inputs_invalid", "must be the id of an artifact")
            return None
        row = await self.db.fetch_one(_FIND, (id_, self.organization_id))
        if row is None:
            self._fault(pointer, "not_found", "no such artifact")
            return None
        subject, title, sha256, mime_type, size = row
        try:
            name = await self.sealer.open_text(Sealed(SubjectId(subject), bytes(title)))
        except SecretUnavailable:
            self._fault(pointer, "not_found", "its owner was erased")
            return None
        return {"artifactId": id_, "name": name, "sha256": sha256, "type": mime_type, "size": size}

    def _fault(self, pointer: str, code: str, message: str) -> None:
        self.faults.append(Detail(pointer, code, message))
