"""The notebooks and the README: what they show runs."""

from __future__ import annotations

import inspect
import re
import shutil
from pathlib import Path

import nbformat
import pytest
import ROOT
from nbclient import NotebookClient

import dask_root_lambda
from dask_root_lambda import LambdaCluster
from dask_root_lambda.demo import generator

from .browser import browsing
from .jupyterlab import opened

PROJECT = Path(__file__).resolve().parents[1]
FOLDER = PROJECT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
CELL_TIMEOUT_S = 120
PAIRS = "nMuon == 2 && Muon_charge[0] != Muon_charge[1]"


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


def check(notebook):
    """Check what the dimuon notebook shows: counts, estimate, report, pictures, widgets, and no secret."""
    flow, fit, equal = (eval(text) for text in shown(notebook, "text/plain") if text.startswith("{"))
    assert list(flow.values())[:3] == [200_000, 110_153, 82_699]
    assert f"{flow['mean mass [GeV]']:.9g}" == "22.9867063"
    assert fit["mass [GeV]"] == pytest.approx(3.0969, abs=4 * fit["its error [GeV]"])
    assert equal == {"every bin is equal": True}
    assert any("cold starts" in report and "emulated" in report for report in shown(notebook, "text/html"))
    assert any("USD" in text and "ranges" in text for text in shown(notebook, "text/plain"))
    assert shown(notebook, "image/png")
    (drawn,) = shown(notebook, "image/svg+xml")
    assert "100 %" in "".join(drawn)
    # The widget, and a bar for each of the runs: a widget, or text where widgets are not installed.
    bars = shown(notebook, "application/vnd.jupyter.widget-view+json")
    assert len(bars) >= 4 or "range" in streamed(notebook, "stderr")
    assert not [output for output in outputs(notebook) if output.output_type == "error"]
    assert "secret=" not in nbformat.writes(notebook)


def test_the_dimuon_notebook_gives_the_demos_counts(tmp_path, monkeypatch):
    """With new data. The switch to local execution changes no bin."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    check(executed(FOLDER / "01_dimuon.ipynb", str(tmp_path)))


def test_a_jupyterlab_does_the_dimuon_notebook(tmp_path, monkeypatch):
    """In a browser: cells run, results are shown, the widget steers, and what is saved has no secret.

    The data set is cached: nothing of ROOT runs before the package is used.
    """
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    generator.dataset(200_000)
    path = tmp_path / "01_dimuon.ipynb"
    shutil.copy(FOLDER / path.name, path)
    with browsing() as browser, opened(browser, path, {"XDG_CACHE_HOME": str(tmp_path / "cache")}) as lab:
        last = lab.n_cells - 1
        lab.select(last)
        lab.command("notebook:run-all-above")
        lab.wait_for_cells(last, CELL_TIMEOUT_S)
        # The notebook has moved it here, by an assignment.
        browser.wait(lambda: "executionlocal" in widget(browser), "the widget does not follow")
        browser.run(_CHOOSE, "emulated")
        browser.wait(lambda: "executionemulated" in widget(browser), "the widget does not steer")
        lab.select(last)
        lab.command("notebook:run-cell")
        lab.wait_for_cells(lab.n_cells, CELL_TIMEOUT_S)
        browser.wait(lambda: browser.run(_PICTURES), "there is no picture")
        check(nbformat.reads(lab.saved(), as_version=4))


_PICTURES = "return document.querySelectorAll('.jp-OutputArea img').length"
_CHOOSE = """
const choice = document.querySelector(".jp-OutputArea .widget-dropdown select");
choice.value = arguments[0];
choice.dispatchEvent(new Event("change", { bubbles: true }));
"""


def widget(browser):
    """Return the text of the cluster's widget, without spaces."""
    return "".join(browser.text(".jp-OutputArea .widget-vbox").split())


def examples(page):
    """Return the blocks of Python of a page."""
    return re.findall(r"```python\n(.*?)```", (PROJECT / page).read_text(), re.DOTALL)


def test_the_readmes_examples_run(capsys, tmp_path, local):
    """The analysis prints its report and leaves a histogram, and the other functions give their results."""
    path = generator.dataset(1000, tmp_path)
    # Two environments at once: what this machine has cores for.
    analysis, annotated, executor = (
        example.replace("concurrency=4", "concurrency=2") for example in examples("README.md")
    )
    names = {"files": [str(path)], "simulate": lambda seed: seed + 1}
    exec(analysis, names)
    assert (
        names["h"].GetEntries()
        == names["n"]
        == ROOT.RDataFrame("Events", str(path)).Filter(PAIRS).Count().GetValue()
    )
    assert re.search(r"^entries +1,000,", capsys.readouterr().out, re.MULTILINE)
    with local.get_client():
        exec(annotated, names)
    assert list(names["results"]) == list(range(1, 101))
    assert local.report().total.invocations == 100
    exec(executor, names)
    assert names["results"] == list(range(1, 101))


@pytest.mark.parametrize(
    ("page", "name"), [("docs/deploy.md", "LambdaCluster"), ("docs/fargate.md", "FargateLambdaCluster")]
)
def test_the_docs_examples_run(tmp_path, monkeypatch, page, name):
    """The examples on AWS, on a cluster of this process: it is given what the real one takes."""
    signature = inspect.signature(getattr(dask_root_lambda, name))

    def cluster(*args, **kwargs):
        signature.bind(*args, **kwargs)
        return LambdaCluster("local", concurrency=2)

    monkeypatch.setattr(dask_root_lambda, name, cluster, raising=False)
    monkeypatch.setattr(ROOT.TH1, "Draw", lambda _: None)
    (analysis,) = examples(page)
    names = {"files": [str(generator.dataset(1000, tmp_path))]}
    exec(analysis, names)
    assert names["h"].GetEntries() > 0


def test_the_emulators_example_runs():
    """It starts an emulator, whose client answers."""
    (example,) = examples("dask_root_lambda/emulator/README.md")
    names = {}
    exec(example + "    functions = client.list_functions()['Functions']\n", names)
    assert names["functions"] == []


def test_the_readmes_pictures_are_here_and_small():
    """Each is in the repository, under 150 KB."""
    pictures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", (PROJECT / "README.md").read_text())
    assert pictures
    assert all(0 < (PROJECT / picture).stat().st_size < 150_000 for picture in pictures)
