"""One pretix and one product for all tests of a session: both take seconds to start, and a customer's would run on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import pytest

from tests.support.chromium import chromium_path
from tests.support.platform_process import PlatformProcess
from tests.support.pretix import Pretix
from tests.support.pretix_jobs import Customer


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pretix]:
    """A pretix with an event, 60 orders and a user who needs a code."""
    with Pretix(tmp_path_factory.mktemp("pretix")) as site:
        yield site


@pytest.fixture(scope="session")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlatformProcess]:
    """What `make run` starts, over a fresh folder and without the demo; runs may reach loopback."""
    with PlatformProcess(tmp_path_factory.mktemp("product"), browser=chromium_path(), TOWPATH_DEMO="0") as product:
        product.start()
        product.await_ready()
        yield product


@pytest.fixture
def customer(site: Pretix, product: PlatformProcess) -> Iterator[Customer]:
    """Somebody who uses the product on pretix."""
    with product.client() as client:
        yield Customer(client, site)


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Say what was measured, past the capturing of output."""

    def say(text: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n{text}\n")

    return say
