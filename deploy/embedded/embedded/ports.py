"""Whether the gateway's port can be had, asked before anything begins."""

from __future__ import annotations

import socket

from kernel.errors import Permanent


def check_free(port: int) -> None:
    """Raise `Permanent("port_taken")` when 127.0.0.1:`port` cannot be listened on.

    The server itself would share the port with whoever else allows that, and be given every other request.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            message = (
                f"port {port} cannot be used ({error.strerror}); is Towpath running already? Else set TOWPATH_PORT"
            )
            raise Permanent("port_taken", message) from None
