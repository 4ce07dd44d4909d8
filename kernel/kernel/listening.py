"""Addresses to listen on, and whether one can be had, asked before anything begins."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from kernel.errors import Permanent


@dataclass(frozen=True, slots=True)
class Address:
    """`host:port` of a setting."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """The parts of `host:port`, brackets of IPv6 taken away; `ValueError` for anything else."""
        host, _, port = text.rpartition(":")
        if not host or not port.isdecimal() or int(port) > 65_535:
            raise ValueError(f"is not host:port: {text!r}")
        return cls(host.strip("[]"), int(port))


def check_free(host: str, port: int, advice: str) -> None:
    """Raise `Permanent("port_taken")`, with `advice`, when `host`:`port` cannot be listened on. May look up `host`.

    A server itself would share the port with whoever else allows that, and be given every other request.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise Permanent("port_taken", f"port {port} cannot be used ({error.strerror}); {advice}") from None
