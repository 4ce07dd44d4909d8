"""What an operator may set of the runner; one field per environment variable `BROWSER_RUNNER_<FIELD>`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from browser_runner.heartbeat import SLOTS_MAX
from kernel.egress.policy import parse_networks
from kernel.errors import Permanent
from kernel.settings import SecretText, Within, read_settings

_PREFIX = "BROWSER_RUNNER_"


@dataclass(frozen=True, slots=True)
class Settings:
    """Meaning, unit and default of each setting."""

    store: str = ""
    """Where the artifact store listens: `host:port` of a name that stands for all of them, or `ip:port,ip:port`. A
    process of its own needs it."""
    store_key: SecretText = field(default=SecretText(""), repr=False)
    """What runners prove themselves to the artifact store by: its runner key. Needed where the store is."""
    store_ca_path: Path | None = None
    """PEM certificate that the artifact store's is checked against; without it the line is plain text."""
    host_id: str = ""
    """Names the machine, or the pod, in heartbeats; empty: its host name."""
    browser_path: str = ""
    """Headless shell or Chromium, the real binary; empty: the one that Playwright has installed."""
    browser_slots: Annotated[int, Within(0, SLOTS_MAX)] = 1
    """Browser runs at a time; one per core is the sweet spot. 0: this runner serves the `light` pool only."""
    light_slots: Annotated[int, Within(0, SLOTS_MAX)] = 64
    """Runs without a page at a time; they wait for the log most of the time. 0: none."""
    runs_per_browser: Annotated[int, Within(1, 1_000_000)] = 100
    """A browser is replaced after so many runs, before leaks of renderers add up."""
    sandbox: bool = True
    """Whether browsers must be in their sandbox. It takes an ordinary user; as root a runner with browsers refuses to
    start, unless this is false, for trials on sites that are trusted."""
    headless: bool = True
    """False: a window, for sites that need full Chromium; needs a display."""
    drain_seconds: Annotated[float, Within(0, 3600)] = 25.0
    """What running attempts get after SIGTERM; below the 30 s that a container gets."""
    session_days: Annotated[int, Within(1, 3650)] = 30
    """How long a saved login is kept."""
    proxy_host: str = "127.0.0.1"
    """Where the egress proxy listens for the browsers of this runner."""
    allowed_networks: str = ""
    """Private networks that runs may reach, such as `127.0.0.0/8` for a demo; empty: none."""


def settings_from(environment: Mapping[str, str]) -> Settings:
    """Settings of an environment; `Permanent("setting_malformed")` names the variable."""
    settings = read_settings(Settings, _PREFIX, environment)
    if settings.browser_slots + settings.light_slots == 0:
        raise Permanent("setting_malformed", f"{_PREFIX}BROWSER_SLOTS and {_PREFIX}LIGHT_SLOTS leave nothing to do")
    try:
        parse_networks(settings.allowed_networks)
    except ValueError as error:
        raise Permanent("setting_malformed", f"{_PREFIX}ALLOWED_NETWORKS: {error}") from None
    return settings
