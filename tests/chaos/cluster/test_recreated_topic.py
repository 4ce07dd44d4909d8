"""A cluster whose topic of public facts is deleted and made anew loses nothing that it told, begins nothing anew."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.chromium import chromium_path, needs_chromium
from tests.support.components import needs_kafka, needs_postgres, needs_s3
from tests.support.recreated_topic import recreate_topic

pytestmark = [needs_chromium, needs_kafka, needs_postgres, needs_s3, pytest.mark.timeout(600)]

SEED = int(os.environ.get("TOWPATH_SEED") or 5)


def test_services_whose_topic_is_recreated_refuse_in_one_line_and_begin_nothing_anew(tmp_path: Path) -> None:
    assert recreate_topic(tmp_path, chromium_path(), SEED).live > 0
