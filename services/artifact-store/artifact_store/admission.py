"""Who may open what: the token check in front of every opening, and the audit row behind it.

An audit row says who, what, when, where and how it ended; never the value, and not the token's nonce, which would fence
nobody if it could be read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

from kernel.clock import Clock
from kernel.errors import SecretUnavailable, TokenNotSeen
from kernel.ids import Entropy
from kernel.sql.port import Database, Statement
from kernel.store.port import GatewayOpener, Opener, RunOpener, TokenCheck

_AUDIT = """
INSERT INTO vault_audit (audit_id, at_ms, organization_id, opener, root_run_id, workflow_run_id, task_id, attempt,
                         action, kind, ref, outcome)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
GRANTED = "granted"


@dataclass(frozen=True, slots=True)
class Opening:
    """One thing somebody wants to do with one secret."""

    opener: Opener
    action: str
    """`open`, `code`, `save`, `load`, `forget`, `prove`."""
    kind: str
    """`credential`, `input`, `answer`, `webhook`, `session`, `subject_key`."""
    ref: str


class Admission:
    """Checks openers against the fence and writes the audit."""

    def __init__(
        self,
        token_check: TokenCheck,
        db: Database,
        clock: Clock,
        entropy: Entropy,
        used: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`used` is told the kind of each secret that may be opened."""
        self._token_check = token_check
        self._db = db
        self._clock = clock
        self._entropy = entropy
        self._used = used

    async def admit(self, opener: Opener) -> None:
        """Return when the opener may act now.

        `SecretUnavailable` for a run whose token is over, `LogUnavailable` when that cannot be told now, `TokenNotSeen`
        when nobody has assigned it so far.
        """
        match opener:
            case RunOpener():
                if not await self._token_check.is_current(opener.root_run_id, opener.token, opener.since_ms):
                    raise SecretUnavailable("the token is not current")
            case GatewayOpener():
                pass
            case _:
                assert_never(opener)

    async def admit_opening(self, opening: Opening, owner_organization_id: str | None) -> None:
        """`admit`, and the thing must exist in the opener's organization; a refusal is audited before it is raised."""
        try:
            await self.admit(opening.opener)
        except SecretUnavailable as refusal:
            raise await self.refused(opening, str(refusal)) from None
        except TokenNotSeen:
            await self.refused(opening, "nobody has assigned the token so far")
            raise
        if owner_organization_id is None or owner_organization_id != opening.opener.organization_id:
            # Foreign and missing look the same to the caller.
            raise await self.refused(opening, "no such secret")

    async def refused(self, opening: Opening, reason: str) -> SecretUnavailable:
        """Audit a refusal; the error to raise."""
        sql, values = self.audit_row(opening, f"refused: {reason}")
        await self._db.execute(sql, values)
        return SecretUnavailable(reason)

    def audit_row(self, opening: Opening, outcome: str = GRANTED) -> Statement:
        """The statement that writes the audit row; it is durable before the result of the act leaves."""
        by = opening.opener
        if isinstance(by, RunOpener):
            run: tuple[str | int, ...] = ("run", by.root_run_id, by.workflow_run_id, by.task_id, by.token.attempt)
        else:
            run = (f"key:{by.handed_to}" if by.handed_to else "gateway", "", "", "", 0)
        if outcome == GRANTED:
            self._used(opening.kind)
        what = (opening.action, opening.kind, opening.ref, outcome)
        return _AUDIT, (self._entropy.uuid(), self._clock.now_ms(), by.organization_id, *run, *what)
