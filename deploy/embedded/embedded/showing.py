"""The demo as a process of its own: the client, the shop's address, the terminal."""

from __future__ import annotations

import time
import urllib.error
import urllib.request

from rich.console import Console

from embedded.demo import run_demo
from embedded.settings import read_settings
from embedded.shop import PASSWORD, USERNAME
from towpath.client import Client
from towpath.errors import TowpathError
from towpath.settings import Settings

_SHOP_SECONDS = 15.0


def show_demo() -> int:
    """Run the demo against the platform of this folder; 0 when it ended well."""
    settings = read_settings()
    shop_url = settings.shop_address.read_text().strip()
    console = Console()
    if not _answers(shop_url):
        console.print(f"[red]The demo shop does not answer on {shop_url}; is the port taken?[/red]")
        return 1
    client_settings = Settings(url=settings.url, api_key=settings.api_key.read_text().strip())
    with Client(client_settings) as client:
        try:
            result = run_demo(
                client,
                shop_url=shop_url,
                username=USERNAME,
                password=PASSWORD,
                console=console,
            )
        except TowpathError as error:
            console.print(f"[red]The demo stopped: {error}[/red]")
            return 1
        except KeyboardInterrupt:
            return 130
    return 0 if result.ok else 1


def _answers(url: str) -> bool:
    deadline = time.monotonic() + _SHOP_SECONDS
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{url}/login", timeout=2):  # noqa: S310 (our own loopback address)
                return True
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.05)
    return False
