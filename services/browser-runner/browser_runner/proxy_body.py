"""Bodies as the egress proxy passes them on: piece by piece, framed anew, never held whole."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from browser_runner.proxy_http import BadHead, Body, parse_chunk_size

PIECE_BYTES = 65536

Put = Callable[[bytes], Awaitable[None]]


async def copy_body(
    body: Body, length: int, reader: asyncio.StreamReader, put: Put, *, piece_seconds: float | None = None
) -> None:
    """Give `put` the body in pieces of at most `PIECE_BYTES`, framed as they have to be sent on.

    `piece_seconds` bounds the wait for each piece (`TimeoutError`). `EOFError` when the body ends early, `BadHead` when
    its chunks are not framed as chunks are.
    """
    match body:
        case Body.NONE:
            return
        case Body.LENGTH:
            await _copy_exactly(length, reader, put, piece_seconds)
        case Body.CHUNKED:
            await _copy_chunks(reader, put, piece_seconds)
        case Body.UNTIL_CLOSE:
            while piece := await _read(reader, PIECE_BYTES, piece_seconds):
                await put(piece)


async def _copy_exactly(length: int, reader: asyncio.StreamReader, put: Put, seconds: float | None) -> None:
    left = length
    while left:
        piece = await _read(reader, min(left, PIECE_BYTES), seconds)
        if not piece:
            raise EOFError
        left -= len(piece)
        await put(piece)


async def _copy_chunks(reader: asyncio.StreamReader, put: Put, seconds: float | None) -> None:
    """Chunks without their extensions and trailers, cut to our size."""

    async def put_chunk(piece: bytes) -> None:
        await put(b"%x\r\n%b\r\n" % (len(piece), piece))

    while size := parse_chunk_size(await _read_line(reader, seconds)):
        await _copy_exactly(size, reader, put_chunk, seconds)
        if await _read_line(reader, seconds) != b"\r\n":
            raise BadHead("chunk end")
    while await _read_line(reader, seconds) != b"\r\n":
        pass
    await put(b"0\r\n\r\n")


async def _read(reader: asyncio.StreamReader, count: int, seconds: float | None) -> bytes:
    async with asyncio.timeout(seconds):
        return await reader.read(count)


async def _read_line(reader: asyncio.StreamReader, seconds: float | None) -> bytes:
    try:
        async with asyncio.timeout(seconds):
            return await reader.readuntil(b"\r\n")
    except asyncio.LimitOverrunError:
        raise BadHead("line") from None
