"""The notebooks: they run from the first cell to the last, and are stored clean."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
CELL_TIMEOUT_S = 120


def executed(path, directory):
    """Run a notebook in a kernel of this interpreter."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook, timeout=CELL_TIMEOUT_S, kernel_name="python3", resources={"metadata": {"path": directory}}
    )
    client.execute()
    return notebook


def outputs(notebook):
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def streamed(notebook, name):
    return "".join(output.text for output in outputs(notebook) if output.get("name") == name)


def shown(notebook, mimetype):
    return [output.data[mimetype] for output in outputs(notebook) if mimetype in output.get("data", {})]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_stored_without_outputs_and_paths_of_a_machine(path):
    """What is committed is what was written by hand."""
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert not re.search(r"/(home|root|work|Users)/", path.read_text())


def test_the_dimuon_notebook_gives_the_demos_counts(tmp_path, monkeypatch):
    """Counts, report, picture and bar are shown; the switch to local execution changes no bin."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    notebook = executed(FOLDER / "01_dimuon.ipynb", str(tmp_path))
    flow, fit, equal = (eval(text) for text in shown(notebook, "text/plain") if text.startswith("{"))
    assert list(flow.values())[:3] == [200_000, 110_153, 82_699]
    assert f"{flow['mean mass [GeV]']:.9g}" == "22.9867063"
    assert fit["mass [GeV]"] == pytest.approx(3.0969, abs=4 * fit["its error [GeV]"])
    assert equal == {"every bin is equal": True}
    assert any("cold starts" in report and "emulated" in report for report in shown(notebook, "text/html"))
    assert shown(notebook, "image/png")
    # A bar for each of the three runs: a widget, or text where widgets are not installed.
    bars = shown(notebook, "application/vnd.jupyter.widget-view+json")
    assert len(bars) == 3 or "range" in streamed(notebook, "stderr")
    assert not [output for output in outputs(notebook) if output.output_type == "error"]
