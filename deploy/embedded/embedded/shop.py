"""How the demo shop is started: its login, and its port, which stays the same."""

from __future__ import annotations

from embedded.settings import Settings

USERNAME = "demo"
PASSWORD = "corner-goods"  # noqa: S105 (the demo shop's own, and no secret)


def shop_arguments(settings: Settings, new_port: int) -> list[str]:
    """What Python is to run for the shop of this folder; its address is written down.

    The port is that of last time, so that an interrupted run finds the shop again; the first time `new_port`.
    """
    address = settings.shop_address
    try:
        port = int(address.read_text().rsplit(":", 1)[1])
    except (OSError, ValueError, IndexError):
        port = new_port
    address.parent.mkdir(parents=True, exist_ok=True)
    address.write_text(f"http://127.0.0.1:{port}\n")
    where = ["--port", str(port), "--log", str(settings.shop_log)]
    return ["-m", "demo_shop", *where, "--quiet", "--user", USERNAME, "--password", PASSWORD]
