"""What an operator may set of the runner; one field per environment variable `BROWSER_RUNNER_<FIELD>`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, get_type_hints

from browser_runner.heartbeat import SLOTS_MAX
from kernel.errors import Permanent

_PREFIX = "BROWSER_RUNNER_"


@dataclass(frozen=True, slots=True)
class Settings:
    """Meaning, unit and default of each setting."""

    host_id: str = "localhost"
    """Names the machine (or the pod's node) for proofs of death; equal for all runners below one watchdog."""
    browser_path: str = ""
    """Headless shell or Chromium, the real binary; empty: the one that Playwright has installed."""
    browser_slots: int = 1
    """Browser runs at a time; one per core is the sweet spot. 0: this runner serves the `light` pool only."""
    light_slots: int = 64
    """Runs without a page at a time; they wait for the log most of the time. 0: none."""
    runs_per_browser: int = 100
    """A browser is replaced after so many runs, before leaks of renderers add up."""
    headless: bool = True
    """False: a window, for sites that need full Chromium; needs a display."""
    drain_seconds: float = 25.0
    """What running attempts get after SIGTERM; below the 30 s that a container gets."""
    session_days: int = 30
    """How long a saved login is kept."""
    proxy_host: str = "127.0.0.1"
    """Where the egress proxy listens for the browsers of this runner."""
    allowed_networks: str = ""
    """Private networks that runs may reach, such as `127.0.0.0/8` for a demo; empty: none."""


def settings_from(environment: Mapping[str, str]) -> Settings:
    """Settings of an environment; `Permanent("setting_malformed")` names the variable."""
    hints = get_type_hints(Settings)
    given: dict[str, Any] = {}
    for field in fields(Settings):
        variable = _PREFIX + field.name.upper()
        text = environment.get(variable)
        if text:
            given[field.name] = _value(variable, text, hints[field.name])
    settings = Settings(**given)
    if settings.browser_slots < 0 or settings.light_slots < 0 or settings.browser_slots + settings.light_slots == 0:
        raise Permanent("setting_malformed", f"{_PREFIX}BROWSER_SLOTS and {_PREFIX}LIGHT_SLOTS leave nothing to do")
    if max(settings.browser_slots, settings.light_slots) > SLOTS_MAX:
        raise Permanent("setting_malformed", f"{_PREFIX}BROWSER_SLOTS and {_PREFIX}LIGHT_SLOTS are at most {SLOTS_MAX}")
    return settings


def _value(variable: str, text: str, kind: type) -> Any:
    if kind is bool:
        if text not in {"0", "1", "false", "true"}:
            raise Permanent("setting_malformed", f"{variable} is true or false")
        return text in {"1", "true"}
    try:
        return kind(text)
    except ValueError:
        raise Permanent("setting_malformed", f"{variable} is no {kind.__name__}") from None
