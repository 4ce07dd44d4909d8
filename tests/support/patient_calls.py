"""Calls of the API as careful clients make them: the same again, under the same key, as long as nobody decides.

A process that was killed is taken over within seconds, and so long a call may be answered with 503; one whose first try
is still under way, with 409.
"""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from kernel.ids import SystemEntropy

_SECONDS = 60.0


async def asked(api: httpx.AsyncClient, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
    """The answer, once somebody has decided; `TimeoutError` after a minute."""
    headers |= {"Idempotency-Key": SystemEntropy().uuid()} if method == "POST" else {}
    async with asyncio.timeout(_SECONDS):
        while _is_undecided(answer := await api.request(method, path, json=body, headers=headers)):  # noqa: ASYNC110 (whom it is said to knows no event of ours)
            await asyncio.sleep(float(answer.headers.get("retry-after", "0.2")))
    return answer


async def made(api: httpx.AsyncClient, path: str, body: Any, **headers: str) -> str:
    """The id of what is made there."""
    answer = await asked(api, "POST", path, body, **headers)
    assert answer.status_code == httpx.codes.CREATED, answer.text
    id_: str = answer.json()["id"]
    return id_


def _is_undecided(answer: httpx.Response) -> bool:
    match answer.status_code:
        case httpx.codes.SERVICE_UNAVAILABLE:
            return True
        case httpx.codes.CONFLICT:
            return bool(answer.json()["error"]["code"] == "idempotency_in_progress")
        case _:
            return False
