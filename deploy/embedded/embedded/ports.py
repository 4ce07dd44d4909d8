"""Whether the gateway's port can be had, asked before anything begins."""

from __future__ import annotations

from kernel.listening import check_free as check_address


def check_free(port: int) -> None:
    """Raise `Permanent("port_taken")` when 127.0.0.1:`port` cannot be listened on."""
    check_address("127.0.0.1", port, "is Towpath running already? Else set TOWPATH_PORT")
