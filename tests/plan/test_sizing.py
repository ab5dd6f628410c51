"""Into how many ranges a run is divided where the user leaves it to us."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dask_root_lambda.plan import history, sizing

COUNTS = st.integers(1, 10_000)


@given(COUNTS, COUNTS)
def test_nothing_known(slots, clusters):
    """As many as run at once, and no more than there are clusters."""
    assert sizing.without_history(slots, clusters).n_ranges == min(slots, clusters)


@given(st.floats(0.001, 1e7), COUNTS, COUNTS)
def test_some_seconds_each(work_s, slots, clusters):
    """Ranges take between 2 and 60 s, as far as clusters and the amount of work allow."""
    n_ranges = sizing.by_work(work_s, slots, clusters, source="it").n_ranges
    assert 1 <= n_ranges <= clusters
    if 1 < n_ranges < clusters:
        assert 2 * 2 / 3 <= work_s / n_ranges <= 60 * 4 / 3


def test_slots_are_used():
    """Where there is work enough, each slot gets several ranges."""
    assert sizing.by_work(10_000.0, 100, 10**6, source="it").n_ranges == 400


def test_why():
    """The reason is in the choice."""
    choice = sizing.by_work(100.0, 4, 1000, source="the last run of this graph")
    assert choice.why == "16 ranges of 6.2 s, because the last run of this graph took 100.0 s of work"


def test_what_a_graph_took_is_remembered(monkeypatch, tmp_path):
    """For a dataset of twice the size, it is twice the work."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert history.recall("graph") is None
    history.remember("graph", history.Record(work_s=10.0, size=1e6))
    record = history.recall("graph")
    assert record is not None
    assert record.work_of(2e6) == 20.0


def test_a_damaged_record_is_none(monkeypatch, tmp_path):
    """Half a file, other members, numbers that are none."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    history.remember("graph", history.Record(10.0, 1.0))
    (path,) = tmp_path.rglob("graph.json")
    for text in ('{"work_s": 1', '{"a": 1}', "[]", '{"work_s": "x", "size": 1}', '{"work_s": NaN}'):
        path.write_text(text)
        assert history.recall("graph") is None


def test_nowhere_to_write(monkeypatch, tmp_path):
    """A state directory that cannot be made is no reason to fail."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    history.remember("graph", history.Record(10.0, 1.0))
    assert history.recall("graph") is None
