"""Settings come from the environment, and what is wrong is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from artifact_store.settings import Settings, settings_from
from kernel.errors import Permanent

REQUIRED = {
    "ARTIFACT_STORE_FOLDER": "/data/bytes",
    "ARTIFACT_STORE_KEYRING_PATH": "/keys/keyring.json",
    "ARTIFACT_STORE_GATEWAY_KEY_PATH": "/keys/gateway",
    "ARTIFACT_STORE_RUNNER_KEY_PATH": "/keys/runner",
}


def test_what_is_not_set_has_its_default() -> None:
    keys = (Path("/keys/keyring.json"), Path("/keys/gateway"), Path("/keys/runner"))
    expected = Settings(*keys, folder=Path("/data/bytes"))
    assert settings_from({**REQUIRED, "ARTIFACT_STORE_ADDRESS": "", "OTHER": "x"}) == expected


def test_what_is_set_counts() -> None:
    tls = {"ARTIFACT_STORE_TLS_CERTIFICATE_PATH": "/c", "ARTIFACT_STORE_TLS_KEY_PATH": "/k"}
    given = settings_from(
        {**REQUIRED, **tls, "ARTIFACT_STORE_BLOB_BYTES_MAX": "1000", "ARTIFACT_STORE_DRAIN_SECONDS": "0.5"}
    )
    assert (given.blob_bytes_max, given.drain_seconds, given.tls_key_path) == (1000, 0.5, Path("/k"))


@pytest.mark.parametrize("name", sorted(REQUIRED))
def test_a_missing_setting_is_named(name: str) -> None:
    with pytest.raises(Permanent, match=name):
        settings_from({key: value for key, value in REQUIRED.items() if key != name})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BLOB_BYTES_MAX", "many"),
        ("SWEEP_SECONDS", "1h"),
        ("TLS_KEY_PATH", "/only/the/key"),
        ("S3_BUCKET", "too"),
        ("S3_ACCESS_KEY_PATH", "/alone"),
    ],
)
def test_a_malformed_setting_is_named(name: str, value: str) -> None:
    with pytest.raises(Permanent, match=name):
        settings_from({**REQUIRED, f"ARTIFACT_STORE_{name}": value})
