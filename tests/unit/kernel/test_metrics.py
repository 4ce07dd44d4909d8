from __future__ import annotations

import pytest

from kernel import metrics
from kernel.metrics import OTHER, SERIES, Few, Kind, Metrics

FORBIDDEN = {
    "tenant",
    "organization",
    "organization_id",
    "run",
    "run_id",
    "user",
    "key",
    "url",
    "host",
    "error",
    "name",
}


def test_every_series_is_told_apart_by_its_name_and_says_what_it_is() -> None:
    names = [series.name for series in SERIES]
    assert len(names) == len(set(names)) > 20
    for series in SERIES:
        assert series.about.endswith("."), series.name
        assert series.shown, series.name


def test_names_end_in_their_unit_as_their_type_has_it() -> None:
    for series in SERIES:
        assert series.name.endswith("_total") == (series.kind is Kind.COUNTER), series.name
        assert bool(series.buckets) == (series.kind is Kind.HISTOGRAM), series.name
        if series.kind is Kind.HISTOGRAM:
            assert series.name.endswith("_seconds")
            assert series.buckets == tuple(sorted(series.buckets))


def test_no_label_is_a_tenant_a_run_or_free_text() -> None:
    for series in SERIES:
        assert not FORBIDDEN & set(series.labels), series.name


def test_a_series_is_made_once_and_as_what_it_is() -> None:
    measures = Metrics()
    assert measures.counter(metrics.TRANSITIONS) is measures.counter(metrics.TRANSITIONS)
    with pytest.raises(TypeError, match="decider_transitions_total is no gauge"):
        measures.gauge(metrics.TRANSITIONS)


def test_only_the_first_values_of_a_label_that_people_choose_are_told_by_name() -> None:
    few = Few(2)
    assert [few(value) for value in ("a", "b", "c", "a", "d")] == ["a", "b", OTHER, "a", OTHER]
