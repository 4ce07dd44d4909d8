"""Where the API is and how we show who we are, read once from the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from towpath.errors import MissingApiKey

DEFAULT_URL = "http://127.0.0.1:8700"
DEFAULT_DATA = ".towpath"


@dataclass(frozen=True, slots=True)
class Settings:
    """What a `Client` needs to know."""

    url: str
    """Where the gateway is served, without `/api/v2`. `TOWPATH_URL`; default is the port of the embedded form."""
    api_key: str = field(repr=False)
    """`TOWPATH_API_KEY`, else the first line of `api-key` in the folder `TOWPATH_DATA` (default `./.towpath`)."""


def from_environment(environment: Mapping[str, str]) -> Settings:
    """Settings from `environment`, reading the key file where no key is set. MissingApiKey when there is none."""
    url = environment.get("TOWPATH_URL", "").strip() or DEFAULT_URL
    key = environment.get("TOWPATH_API_KEY", "").strip()
    return Settings(url.rstrip("/"), key or _key_of(Path(environment.get("TOWPATH_DATA") or DEFAULT_DATA)))


def _key_of(folder: Path) -> str:
    file = folder / "api-key"
    try:
        key = file.read_text(encoding="utf-8").strip()
    except OSError as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
        raise MissingApiKey(f"TOWPATH_API_KEY is not set, and {file} {reason}.") from error
    if not key:
        raise MissingApiKey(f"TOWPATH_API_KEY is not set, and {file} is empty.")
    return key
