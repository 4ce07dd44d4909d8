"""Without a key nothing starts, and the message says where keys are looked for."""

from __future__ import annotations

import pytest

from towpath import MissingApiKey, from_environment


def test_the_environment_wins() -> None:
    found = from_environment({"TOWPATH_URL": "https://towpath.example/ ".strip(), "TOWPATH_API_KEY": " secret "})
    assert (found.url, found.api_key) == ("https://towpath.example", "secret")


def test_the_default_address_is_that_of_the_embedded_form() -> None:
    assert from_environment({"TOWPATH_API_KEY": "secret"}).url == "http://127.0.0.1:8700"


def test_a_missing_key_names_both_places() -> None:
    with pytest.raises(MissingApiKey, match=r"TOWPATH_API_KEY is not set, and .*api-key does not exist"):
        from_environment({"TOWPATH_DATA": "/nowhere-at-all"})
