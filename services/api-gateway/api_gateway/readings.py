"""What starting a run needs to know of a workflow's steps, read once per revision and kept."""

from __future__ import annotations

from collections import OrderedDict

from api_gateway import planning
from api_gateway.planning import Definition, Reading
from kernel.store.port import ByteStore

READINGS_MAX = 512


class Readings:
    """The newest readings of one process. A revision never changes, so nothing here grows old."""

    def __init__(self, store: ByteStore) -> None:
        self._store = store
        self._kept: OrderedDict[tuple[str, int], Reading] = OrderedDict()

    async def of(self, definition: Definition) -> Reading:
        """The reading of this revision; a long document is fetched from the store once."""
        place = (definition.workflow_id, definition.revision)
        reading = self._kept.get(place)
        if reading is None:
            document = definition.document
            text = document.inline or await self._store.get_bytes(document.blob)
            reading = self._kept[place] = planning.parse_reading(text)
            if len(self._kept) > READINGS_MAX:
                self._kept.popitem(last=False)
        return reading
