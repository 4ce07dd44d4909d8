"""The exports that customers collect, kept as JSON lines in the shop's own log.

Every press of the button is written, a second one for the same export too: who reads the log can count how often each
run collected. `{"at": seconds, "event": "created" | "collected", "export_id", "run_ref", "account"}`
"""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(slots=True)
class Export:
    """One batch of orders that is waiting for, or was handed to, the customer's books."""

    id: str
    run_ref: str
    account: str
    collected_at: float | None = None


class ExportBook:
    """All exports of a shop; what `read` finds in the log survives its restarts."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._exports: dict[str, Export] = {}
        self._writing = asyncio.Lock()

    def read(self) -> None:
        """Fill the book from the log. A last line that a crash cut short is dropped. Blocks."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if not self._path.exists():
            return
        content = self._path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            os.truncate(self._path, len(whole))
        for line in whole.splitlines():
            self._apply(json.loads(line))

    def get(self, export_id: str, account: str) -> Export | None:
        """The export, if it is this account's."""
        export = self._exports.get(export_id)
        return export if export is not None and export.account == account else None

    def latest(self, account: str) -> Export | None:
        """The account's youngest export."""
        return next((export for export in reversed(self._exports.values()) if export.account == account), None)

    async def open(self, account: str, run_ref: str, at: float) -> Export:
        """The account's export for `run_ref`, made when there is none; without a reference, any not yet collected."""
        async with self._writing:
            mine = [export for export in self._exports.values() if export.account == account]
            for export in mine:
                if export.run_ref == run_ref if run_ref else export.collected_at is None:
                    return export
            export_id = f"EX-{len(self._exports) + 1:04}"
            await self._write("created", Export(export_id, run_ref or export_id, account), at)
            return self._exports[export_id]

    async def collect(self, export: Export, at: float) -> None:
        """Write down that it was collected, however often that was done before; durable when it returns."""
        async with self._writing:
            await self._write("collected", export, at)

    async def _write(self, event: str, export: Export, at: float) -> None:
        entry = {
            "at": at,
            "event": event,
            "export_id": export.id,
            "run_ref": export.run_ref,
            "account": export.account,
        }
        # A thread, because the shop may share its loop with the platform that visits it.
        await asyncio.to_thread(self._append, json.dumps(entry).encode() + b"\n")
        self._apply(entry)

    def _append(self, line: bytes) -> None:
        with self._path.open("ab") as log:
            log.write(line)
            log.flush()
            os.fsync(log.fileno())

    def _apply(self, entry: dict[str, object]) -> None:
        export_id = str(entry["export_id"])
        if entry["event"] == "created":
            self._exports[export_id] = Export(export_id, str(entry["run_ref"]), str(entry["account"]))
        elif self._exports[export_id].collected_at is None:
            self._exports[export_id].collected_at = float(str(entry["at"]))
