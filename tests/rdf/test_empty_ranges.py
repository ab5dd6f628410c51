"""Ranges in which no cluster begins are not invoked, and the numbers are local ROOT's."""

from __future__ import annotations

import dask
import numpy as np
import pytest
import ROOT

from dask_root_lambda import LambdaCluster, RDataFrame
from dask_root_lambda.invocation.emulated import EmulatorProcess
from dask_root_lambda.protocol.errors import DaskRootLambdaError
from tests.conftest import write_events


@pytest.fixture
def events(tmp_path):
    """Three files: three clusters, none, and one."""
    sizes = {"three": 300, "none": 0, "one": 70}
    return [write_events(tmp_path / f"{name}.root", entries=entries) for name, entries in sizes.items()]


def booked(frame):
    nothing = frame.Filter("x < 0")
    return {
        "n": frame.Count(),
        "sum": frame.Sum("x"),
        "mean": frame.Mean("x"),
        "histogram": frame.Histo1D(("h", "", 10, 0.0, 300.0), "x"),
        "kept by no cut": nothing.Count(),
        "mean of none": nothing.Mean("x"),
    }


def plain(value):
    if isinstance(value, ROOT.TH1):
        return [value.GetBinContent(each) for each in range(value.GetNbinsX() + 2)]
    return float(value)


def test_they_are_not_invoked(events, monkeypatch):
    """The emulator starts as many invocations as there are clusters, not as ranges were asked for."""
    endpoints = []
    wait = EmulatorProcess._wait_until_ready
    monkeypatch.setattr(
        EmulatorProcess,
        "_wait_until_ready",
        lambda self, timeout_s: endpoints.append(wait(self, timeout_s)) or endpoints[-1],
    )
    with LambdaCluster("emulated", concurrency=1) as cluster, cluster.get_client():
        frame = RDataFrame("Events", events, npartitions=30)
        results = dict(zip(booked(frame), dask.compute(*booked(frame).values()), strict=True))
        columns = frame.Filter("x < 0").AsNumpy(["x", "pt"])
        started = invocations(endpoints[0], cluster.report().total.invocations)
        report = cluster.report()
    expected = booked(ROOT.RDataFrame("Events", events))
    assert {name: plain(value) for name, value in results.items()} == {
        name: plain(value.GetValue()) for name, value in expected.items()
    }
    none = ROOT.RDataFrame("Events", events).Filter("x < 0").AsNumpy(["x", "pt"])
    assert {name: column.dtype for name, column in columns.items()} == {
        name: np.asarray(column).dtype for name, column in none.items()
    }
    assert not any(map(len, columns.values()))
    # Two runs of the four clusters.
    assert started == report.total.invocations == 8
    assert (report.total.ranges, report.total.empty) == (8, 0)
    assert "4 ranges and not 30, as asked for" in str(report)


def invocations(endpoint, at_least):
    """Return how many invocations the emulator has started, by its log."""
    import boto3

    keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "region_name": "us-east-1"}
    logs = boto3.client("logs", endpoint_url=endpoint, **keys)
    pages = logs.get_paginator("filter_log_events").paginate(
        logGroupName="/aws/lambda/dask-root-lambda", filterPattern="START"
    )
    found = [event["message"] for page in pages for event in page["events"]]
    started = sum(message.startswith("START ") for message in found)
    assert started >= at_least
    return started


def test_snapshots_of_nothing(events, tmp_path, local):
    """A Snapshot of a frame that a cut leaves empty has its columns, and no entries."""
    written = (
        RDataFrame("Events", events, npartitions=30)
        .Filter("x < 0")
        .Snapshot("Kept", str(tmp_path / "kept.root"), ["x"])
    )
    assert written.Count().GetValue() == 0
    assert written.AsNumpy(["x"])["x"].dtype == np.int32


def test_files_without_entries_only(tmp_path, local):
    """A data set without any entry is one range, which knows the empty results."""
    files = [write_events(tmp_path / f"{each}.root", entries=0) for each in range(2)]
    frame = RDataFrame("Events", files, npartitions=12)
    assert dask.compute(frame.Count(), frame.Sum("x")) == (0, 0.0)
    assert local.report().runs[-1].ranges == 1


def test_rntuples(tmp_path, local):
    """RNTuples are divided by their clusters as well."""
    options = ROOT.RDF.RSnapshotOptions()
    options.fOutputFormat = ROOT.RDF.ESnapshotOutputFormat.kRNTuple
    path = str(tmp_path / "ntuple.root")
    ROOT.RDataFrame(50).Define("x", "int(rdfentry_)").Snapshot("Events", path, ["x"], options)
    assert RDataFrame("Events", path, npartitions=9).Sum("x").GetValue() == sum(range(50))
    assert local.report().runs[-1].ranges == 1


def test_a_file_that_was_replaced_is_looked_at_again(tmp_path, local):
    """Clusters are remembered by the content of a file, not by its name."""
    path = tmp_path / "events.root"
    for entries, ranges in ((100, 1), (300, 3)):
        write_events(path, entries=entries)
        assert RDataFrame("Events", str(path), npartitions=7).Count().GetValue() == entries
        assert local.report().runs[-1].ranges == ranges


def test_a_file_whose_clusters_cannot_be_read(tmp_path, local):
    """It is no matter of dividing: its ranges tell what is wrong."""
    good = write_events(tmp_path / "good.root", entries=300)
    other = write_events(tmp_path / "other.root", entries=300, tree="Another")
    frame = RDataFrame("Events", [good, other], npartitions=12)
    with pytest.raises(DaskRootLambdaError, match=r"other\.root|Events"):
        frame.Count().GetValue()
