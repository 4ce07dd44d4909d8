"""Run the shop alone: `python -m demo_shop --port 8080 --log shop/collected.jsonl`."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from pathlib import Path

from demo_shop.shop import ShopSettings, start_shop

MANAGER, MANAGER_PASSWORD = "manager", "corner-manager"
MANAGER_SEED = "MNXXE3TFOIWWO33PMRZS2ZDFNVXS2MBR"
"""The second account has an authenticator app, for the examples; it is no secret."""


async def _run(arguments: argparse.Namespace) -> None:
    settings = ShopSettings(
        accounts={arguments.user: arguments.password, MANAGER: MANAGER_PASSWORD},
        seeds={MANAGER: MANAGER_SEED},
        mfa=arguments.mfa,
        admin=arguments.admin,
    )
    shop = await start_shop(arguments.host, arguments.port, settings, arguments.log)
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    if not arguments.quiet:
        print(shop.url, flush=True)
    await ended.wait()
    await shop.close()


def main() -> None:
    """Print the address, serve until told to end."""
    parser = argparse.ArgumentParser(prog="demo_shop", description="Corner Goods, a shop to practise on.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0, the default: any free one")
    parser.add_argument("--user", default="demo")
    parser.add_argument("--password", default="corner-goods")
    parser.add_argument("--log", type=Path, default=Path("corner-goods.jsonl"), help="where collections are written")
    parser.add_argument("--mfa", action="store_true", help="ask for a one-time code")
    parser.add_argument("--admin", action="store_true", help="serve /_admin, for tests")
    parser.add_argument("--quiet", action="store_true", help="do not print the address")
    arguments = parser.parse_args()
    try:
        asyncio.run(_run(arguments))
    except OSError as error:
        print(f"demo_shop: {arguments.host}:{arguments.port}: {error.strerror}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
