"""Which hosts a document names, and which URLs it may hold. Pure.

A literal URL is judged when the document is saved; what a template makes of it is judged by the egress proxy alone.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from urllib.parse import urlsplit

from kernel.egress import policy
from kernel.steps.document import Download, Extract, Navigate, PageNumber, StepsDocument, all_steps
from kernel.steps.effects import check_of

_ORIGIN = re.compile(r"[a-z]+://[^/?#{}]+/?", re.IGNORECASE)
_LOCAL_NAMES = ("localhost", "local", "internal")


def url_problem(url: str, open_hosts: Collection[str] = ()) -> str | None:
    """What speaks against a URL, or None. `open_hosts` are private hosts that this installation allows.

    A template may stand for the whole URL or behind the host; never for a part of scheme and host.
    """
    if url.startswith("{{"):
        return None
    try:
        parts = urlsplit(url.split("{{", 1)[0])
        host, _port = parts.hostname or "", parts.port
    except ValueError as error:
        return str(error)
    if parts.scheme not in {"http", "https"}:
        return "only http and https are allowed"
    if not host or ("{{" in url and not parts.path):
        return "the host must be written out"
    if parts.username is not None or parts.password is not None:
        return "a URL holds no user name and no password"
    return _host_problem(host, open_hosts)


def is_origin(url: str) -> bool:
    """Whether a URL ends behind its host and port, so that nothing in it is passed over."""
    return _ORIGIN.fullmatch(url) is not None


def _host_problem(host: str, open_hosts: Collection[str]) -> str | None:
    try:
        name = policy.host_name(host)
    except ValueError:
        return "the host is malformed"
    if name in open_hosts:
        return None
    address = policy.parse_address(name)
    if address is not None:
        is_open = policy.is_open_address(address, policy.Policy())
        return None if is_open else "the address is not on the public network"
    return "the name is not on the public network" if name.rsplit(".", 1)[-1] in _LOCAL_NAMES else None


def host_of(url: str) -> str:
    """The host of a URL in canonical form; empty when it has none or a template stands for it."""
    try:
        return policy.host_name(urlsplit(url.split("{{", 1)[0]).hostname or "")
    except ValueError:
        return ""


def urls_of(document: StepsDocument) -> list[str]:
    """Every URL that the document opens, templates included."""
    urls = list(document.start_origins)
    for step in all_steps(document):
        params = step.params
        if isinstance(params, Navigate | Download) and params.url:
            urls.append(params.url)
        if isinstance(params, Extract) and isinstance(params.paging, PageNumber) and params.paging.url:
            urls.append(params.paging.url)
        check = check_of(step)
        if check is not None and check.open:
            urls.append(check.open)
    return urls


def hosts_of(document: StepsDocument) -> tuple[str, ...]:
    """Host names that the document writes out, sorted, each once."""
    return tuple(sorted({host for host in map(host_of, urls_of(document)) if host}))
