"""What clusters, frames, results and reports look like, on a terminal and in a notebook."""

from __future__ import annotations

import re

import pytest
from distributed import Client

from dask_root_lambda import LambdaCluster, RDataFrame, shown
from tests.conftest import ROOT


class TestClusters:
    """Executions, not Dask's workers."""

    @pytest.fixture
    def cluster(self):
        with LambdaCluster(execution="local", concurrency=4, progress=False) as cluster:
            yield cluster

    def test_text_and_html(self, cluster, events_file):
        """Execution, concurrency, memory and cost; the link is the address that listens; closed too."""
        assert re.fullmatch(
            r"LambdaCluster\('local', concurrency=\d+, in_flight=0, dashboard='http://127.0.0.1:\d+/status'\)",
            repr(cluster),
        )
        page = cluster._repr_html_()
        assert "that of this process" in page
        assert set(re.findall(r"http://([\d.]+):", page)) == {"127.0.0.1"}
        with cluster.get_client() as client:
            assert not re.search(r"memory=0 B", repr(client))
            RDataFrame("Events", events_file, npartitions=2).Count().GetValue()
            assert "MB used at most" in cluster._repr_html_()
        cluster.close()
        assert "'local'" in repr(cluster)

    def test_the_memory_of_environments(self):
        """Under the execution that holds."""
        with LambdaCluster(execution="emulated", concurrency=2, memory_mb=1500, progress=False) as cluster:
            assert "1,500 MB in each environment" in cluster._repr_html_()
            cluster.execution = "local"
            assert "1,500 MB" not in cluster._repr_html_()

    def test_the_widget_steers(self, cluster):
        """Execution and concurrency are changed by it; what cannot be is said, and shown as it is."""
        box = cluster._widget()
        status, controls, said = box.children
        execution, concurrency = controls.children
        most = cluster.concurrency
        concurrency.value = 1
        assert cluster.concurrency == 1
        concurrency.value = most + 1
        assert "has to be a whole number" in said.value
        assert (cluster.concurrency, concurrency.value) == (1, 1)
        execution.value = "emulated"
        assert cluster.execution == "emulated"
        assert said.value == ""
        assert "emulated" in status.value
        cluster.execution = "local"
        assert box is cluster._widget()
        assert "scale" not in str([type(each) for each in controls.children]).lower()


class TestFrames:
    """What is read, and what is booked; nothing runs."""

    def test_of_files(self, local, events_file):
        """Tree, files, entries and columns."""
        frame = RDataFrame("Events", [events_file] * 2, npartitions=3)
        assert repr(frame) == "<RDataFrame('Events', 2 files)>"
        node = frame.Define("y", "x * 2").Filter("y > 3", "A").Range
        assert callable(node)
        node = frame.Range(5).Define("y", "x * 2")
        assert repr(node) == "<RDataFrame('Events', 2 files).Range(0, 5, 1).Define('y', 'x * 2')>"
        page = node._repr_html_()
        for part in ("Events", events_file, "2,000", "<th style='text-align:left'>y</th>", "Define"):
            assert part in page
        assert local.report().total.invocations == 0

    def test_of_entries(self, local):
        """Without files."""
        frame = RDataFrame(1234)
        assert repr(frame) == "<RDataFrame(1,234 entries)>"
        assert "1,234" in frame._repr_html_()


def test_results(local, events_file):
    """What they are, and their values once they are computed; nothing is computed to be shown."""
    frame = RDataFrame("Events", events_file, npartitions=3)
    count, histogram = frame.Count(), frame.Histo1D(("h", "", 5, 0.0, 9.0), "x")
    display, report = frame.Display(["x"], 2), frame.Filter("x < 3", "A&B").Report()
    results = (count, histogram, display, report)
    assert repr(count) == "<Result of Count()>"
    assert repr(histogram) == "<Result of Histo1D(('h', '', 5, 0.0, 9.0), 'x')>"
    assert all("computed when it is touched" in result._repr_html_() for result in results)
    assert local.report().total.invocations == 0
    display.GetValue(), count.GetValue()
    assert repr(count) == "<Result of Count(), computed>"
    assert "<pre>1000</pre>" in count._repr_html_()
    assert "<table" in display._repr_html_()
    assert "A&amp;B" in report._repr_html_()


def test_the_report_of_a_cluster_is_a_table(local):
    """On a terminal as when it is printed."""
    assert repr(local.report()) == str(local.report())


def test_secrets_are_left_out():
    """Passwords, signatures and tokens of URLs; names of files and expressions stay."""
    signed = "https://bucket.s3.amazonaws.com/a.root?X-Amz-Signature=secret"
    assert shown.without_secrets(signed) == "https://bucket.s3.amazonaws.com/a.root?..."
    assert shown.without_secrets("root://me:secret@host//a.root") == "root://host//a.root"
    for name in ("/data/a?b.root", "x > 3 ? 1 : 0", "data://"[:4]):
        assert shown.without_secrets(name) == name


def test_secrets_of_a_snapshot(local, events_file):
    """In the text of a result that is booked."""
    options = ROOT.RDF.RSnapshotOptions()
    options.fLazy = True
    frame = RDataFrame("Events", events_file, npartitions=3)
    lazy = frame.Snapshot("t", "root://me:secret@host.invalid//out.root", ["x"], options)
    assert "secret" not in repr(lazy) + lazy._repr_html_()
    assert Client.current()
