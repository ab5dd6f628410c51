"""Ranges share a dataset out: every cluster of every file is in exactly one of them."""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate
from types import SimpleNamespace
from unittest import mock

import dask
import pytest
import ROOT
from hypothesis import example, given, settings
from hypothesis import strategies as st
from ROOT._distrdf import Ranges

from dask_root_lambda import RDataFrame
from dask_root_lambda.protocol import intervals
from lambda_runtime.ranges import file_range
from tests.conftest import write_events

FILES = st.lists(st.lists(st.integers(1, 3), max_size=5), min_size=1)
"""Files as the sizes of their clusters."""


def divided(names, n_ranges, exec_id=None):
    """Ranges over files of these names."""
    shared = intervals.divided(len(names), n_ranges)
    ranges = [file_range(names, names, None, False, *numbered) for numbered in enumerate(shared)]
    return [replace(each, exec_id=exec_id) for each in ranges]


def processed(files, n_ranges):
    """The entries of each range, of files that are given as the sizes of their clusters."""
    boundaries = [[0, *accumulate(sizes)] for sizes in files]
    offsets = [0, *accumulate(sum(sizes) for sizes in files)]
    names = [str(index) for index in range(len(files))]
    shared = divided(names, n_ranges, SimpleNamespace(rdf_uuid=""))

    def look_up(_, __, name):
        return boundaries[int(name)], boundaries[int(name)][-1]

    with mock.patch.object(Ranges, "get_clusters_and_entries", look_up):
        for each in shared:
            found, _ = Ranges.get_clustered_range_from_percs(each)
            if found is not None:
                offset = offsets[int(found.filenames[0])]
                yield offset + found.globalstart, offset + found.globalend


@given(FILES, st.integers(1, 400))
@example([[100] * 10] * 3, 187)
@example([[100] * 10 + [1]], 49)
@example([[]], 49)
@settings(max_examples=300, deadline=None)
def test_ranges_tile_every_cluster_of_every_file(files, n_ranges):
    """Ranges follow upon each other without a gap, from the first entry to the last, by clusters."""
    spans = [(start, end) for start, end in processed(files, n_ranges) if end > start]
    clusters = [0, *accumulate(size for sizes in files for size in sizes)]
    assert [start for start, _ in spans] == [0, *(end for _, end in spans)][: len(spans)]
    assert (spans[-1][1] if spans else 0) == clusters[-1]
    assert {edge for span in spans for edge in span} <= set(clusters)


@given(st.integers(1, 1000), st.integers(1, 1000))
@example(3, 187)
def test_the_last_range_ends_with_the_last_file(n_files, n_ranges):
    """However the numbers divide, there are as many ranges as asked for, and no file is opened in vain."""
    names = ["a"] * n_files
    shared = divided(names, n_ranges)
    assert len(shared) == n_ranges
    assert (shared[0].first_tree_start_perc, shared[-1].last_tree_end_perc) == (0, 1)
    opened = [len(each.filenames) for each in shared]
    assert min(opened) >= 1
    # A file that is shared by several ranges is opened by each.
    borders = [each.last_tree_end_perc < 1 for each in shared]
    assert sum(opened) == n_files + sum(borders)


@pytest.fixture(scope="module")
def awkward(tmp_path_factory):
    """Datasets, and numbers of ranges by which floats do not divide them: files, ranges, entries."""
    directory = tmp_path_factory.mktemp("awkward")
    files = [write_events(directory / f"{index}.root") for index in range(3)]
    one_more = write_events(directory / "one_more.root", entries=1001)
    return {"above": (files, 187, 3000), "below": ([one_more], 49, 1001)}


@pytest.mark.parametrize("which", ["above", "below"])
def test_any_number_of_ranges_by_our_door(which, awkward):
    """RDataFrame processes every entry once, however many ranges are asked for."""
    files, n_ranges, entries = awkward[which]
    frame = RDataFrame("Events", files, npartitions=n_ranges)
    assert dask.compute(frame.Count(), scheduler="synchronous") == (entries,)


@pytest.mark.parametrize("which", ["above", "below"])
def test_any_number_of_ranges_by_roots_door(which, awkward, local):
    """So does ROOT.RDataFrame with the client of a cluster."""
    files, n_ranges, entries = awkward[which]
    with local.get_client() as client:
        frame = ROOT.RDataFrame("Events", files, executor=client, npartitions=n_ranges)
        assert frame.Count().GetValue() == entries
