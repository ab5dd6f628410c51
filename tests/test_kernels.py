"""ROOT and this package in a real Jupyter kernel, whichever is imported first."""

from __future__ import annotations

import textwrap

import nbformat
import pytest
from nbclient import NotebookClient

TIMEOUT_S = 120

OURS = "from dask_root_lambda import RDataFrame"
COUNT = "RDataFrame('Events', {file!r}, npartitions=2).Filter('x >= 500').Count().compute()"
ROOTS = "ROOT.RDataFrame('Events', {file!r}).Filter('x >= 500').Count().GetValue()"
HELPER = "ROOT.gInterpreter.Declare('float half(ROOT::RVecF values) {{ return values[0] / 2; }}')"
COMPILED = """
ROOT.gInterpreter.Declare('''
#include <map>
#include <string>
std::map<std::string, std::string> names;
''')
"""

ORDERS = {
    "ROOT first": ["import ROOT", OURS, COUNT, ROOTS],
    "ROOT second": [OURS, COUNT, "import ROOT", ROOTS],
    "ROOT between the package and its first name": ["import dask_root_lambda", "import ROOT", OURS, COUNT],
    "ROOT at work first": ["import ROOT", HELPER, "ROOT.TH1F('h', '', 10, 0, 1).Draw()", ROOTS, OURS, COUNT],
    "%jsroot first": ["import ROOT", "%jsroot on", OURS, COUNT, ROOTS],
    "%jsroot last": [OURS, "import ROOT", "%jsroot on", COUNT, ROOTS],
}


def outputs(cells):
    """Run cells in a kernel of this interpreter; return what the last expression of each is, or its error."""
    return [[_plain(output) for output in cell] for cell in displayed(cells)]


def displayed(cells):
    """Run cells in a kernel of this interpreter; return their outputs."""
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(textwrap.dedent(cell).strip()) for cell in cells]
    )
    NotebookClient(notebook, timeout=TIMEOUT_S, kernel_name="python3", allow_errors=True).execute()
    return [cell.outputs for cell in notebook.cells]


def _plain(output):
    if output.output_type == "error":
        return f"{output.ename}: {output.evalue}"
    return output.get("text") or output.get("data", {}).get("text/plain")


@pytest.mark.parametrize("order", ORDERS)
def test_frames_work_in_every_order(events_file, order):
    """Both packages count the entries, and nothing is said of symbols that do not materialize."""
    found = outputs([cell.format(file=events_file) for cell in ORDERS[order]])
    said = str(found)
    counts = [cell for cell in ORDERS[order] if cell in (COUNT, ROOTS)]
    assert said.count("'500'") == len(counts), said
    assert "materialize" not in said


def test_an_interpreter_that_broke_before_is_an_error_that_says_what_to_do(events_file):
    """What ROOT alone breaks before this package is there cannot be mended: the kernel has to start again."""
    *_, found = outputs(["import ROOT", COMPILED, OURS, COUNT.format(file=events_file)])
    (error,) = (text for text in found if text.startswith("ConfigurationError"))
    assert "ROOT's interpreter is broken in this kernel" in error
    assert "Restart the kernel" in error


LIVE = """
import ROOT
from dask_root_lambda import LambdaCluster, RDataFrame
cluster = LambdaCluster(execution="local", concurrency=2, dashboard_address=None)
client = cluster.get_client()
frame = RDataFrame("Events", {file!r}, npartitions=8)
h = frame.Define("z", "gSystem->Sleep(5); return x;").Histo1D(("h", "", 10, 0, 1000), "z")
g = frame.Graph("x", "pt")
"""
DRAWN = """
calls = []
ROOT.RDF.Distributed.LiveVisualize({h: lambda h: calls.append(h.GetEntries()), g: None})
h.GetEntries()
"""


def test_results_are_drawn_in_a_notebook(events_file):
    """One picture, renewed in its place, says how much is in it; in the end that is all."""
    *_, shown, calls, canvases = displayed(
        [LIVE.format(file=events_file), DRAWN, "calls", "ROOT.gROOT.GetListOfCanvases().GetSize()"]
    )
    data = [output.get("data", {}) for output in shown]
    (picture,) = (each["image/svg+xml"] for each in data if "image/svg+xml" in each)
    assert "100 % of the entries" in picture
    assert _plain(calls[0]).endswith(", 1000.0]")
    assert _plain(canvases[0]) == "0"
