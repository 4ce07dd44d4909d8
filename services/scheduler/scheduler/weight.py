"""How much room a task takes in a record. Pure.

Tasks are the only long decisions, and what no record can hold is decided by nobody: such a run would wait for ever, and
one batch that is too long would hold back all that is decided with it.
"""

from __future__ import annotations

from kernel.domain.task import JournalEntry, TaskRequested
from kernel.domain.values import SealedBody

TASK_BYTES_MAX = 56 * 1024
"""A task of this weight still fits the records of `advance` and `dispatch`, with their envelopes."""
PORTION_BYTES = 512 * 1024
"""Tasks decided for one input; a batch of the log holds 1 MiB."""

_FIXED_BYTES = 2048
_REFERENCE_BYTES = 160
_ENTRY_BYTES = 120


def weight_of(request: TaskRequested) -> int:
    """Bytes of its record, rounded up."""
    workflow, journal = request.workflow, request.journal
    return (
        _FIXED_BYTES
        + _text(workflow.name)
        + _text(workflow.document.inline)
        + sum(_text(host) + 4 for host in workflow.allowed_hosts)
        + _body(workflow.inputs)
        + _body(journal.staged)
        + sum(_entry(entry) for entry in journal.entries)
        + sum(_text(path) + 4 for path in journal.unknown)
        + sum(_text(answer.path) + 2 * _REFERENCE_BYTES + _body(answer.values) for answer in request.answers)
    )


def _entry(entry: JournalEntry) -> int:
    texts = _text(entry.path) + _text(entry.failure_code) + _text(entry.asks_again)
    return _ENTRY_BYTES + texts + _body(entry.output) + len(entry.url.box)


def _body(body: SealedBody) -> int:
    return _REFERENCE_BYTES + len(body.box)


def _text(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
