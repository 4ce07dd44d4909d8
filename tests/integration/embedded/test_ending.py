"""The platform ends in order: what came in before the end is answered."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import httpx
import pytest

from api_gateway import serving
from embedded.platform import run_platform
from embedded.settings import read_settings
from kernel.redaction import LiveSecrets
from tests.support.platform_process import free_ports


async def test_a_post_that_is_under_way_when_the_platform_ends_gets_its_outcome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "LAST_ANSWERS_SECONDS", 30.0)  # a slow machine sends the rest late
    port = free_ports(1)
    settings = read_settings({"TOWPATH_DATA": str(tmp_path), "TOWPATH_PORT": str(port), "TOWPATH_DEMO": "0"})
    stop = asyncio.Event()
    platform = asyncio.create_task(run_platform(settings, LiveSecrets(), stop))
    try:
        await ready(settings.url)
        step = {"id": "look", "type": "assert", "params": {"that": ["true"]}}
        body = {
            "name": "w",
            "sourceProvider": "demo",
            "type": "USER_DEFINED",
            "stepsJson": {"version": 1, "steps": [step]},
        }
        text = json.dumps(body).encode()
        key = settings.api_key.read_text().strip()
        head = f"POST /api/v2/workflows HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head.encode() + text[:10])
        await writer.drain()
        await asyncio.sleep(1.0)
        stop.set()
        await asyncio.sleep(0.5)
        writer.write(text[10:])
        await writer.drain()
        answer = await asyncio.wait_for(reader.read(), 30)
        writer.close()
        assert b" 201 " in answer.split(b"\r\n")[0], answer[:400]
    finally:
        stop.set()
        await asyncio.wait_for(platform, 60)


async def ready(url: str) -> None:
    async with httpx.AsyncClient() as client, asyncio.timeout(60):
        while True:
            try:
                if (await client.get(f"{url}/health/ready")).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.05)
