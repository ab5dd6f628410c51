"""The page in a real browser, in a real run."""

from __future__ import annotations

import html
import os

import numpy as np
import pytest
import ROOT

from dask_root_lambda import RDataFrame
from dask_root_lambda.dashboard import shapes
from dask_root_lambda.protocol.errors import UserCodeError

from ..browser import browsing
from . import dashboards

NAME = "<img src=x onerror=document.title=1>"
"""What users name is text, whatever it looks like."""


@pytest.fixture(scope="module")
def browser():
    with browsing() as browser:
        yield browser


def taken(places, folder):
    """Return code that takes one of some places, and is true where none is free."""
    return " && ".join(f'gSystem->mkdir("{folder}/{number}")' for number in places)


def slow(frame, folder):
    """Let three clusters of 100 entries pass; others wait for a gate. Note in which process each is read."""
    wait = f'while (gSystem->AccessPathName("{folder}/gate")) gSystem->Sleep(20);'
    code = f"if (int(x) % 100 == 0 && {taken(range(3), folder)}) {wait} return 2.0 * x;"
    return frame.Define("y", code).Define("pid", "double(gSystem->GetPid())")


def contents(histogram):
    return [histogram.GetBinContent(each) for each in range(histogram.GetNbinsX() + 2)]


def test_watching_and_switching_in_mid_run(browser, emulated, events_file, tmp_path):
    """Figures change while it runs, a click moves the rest here, and the result is local ROOT's.

    What the page says of where each range ran is what the processes say themselves.
    """
    model = (NAME, "", 20, 0.0, 2000.0)
    expected = contents(ROOT.RDataFrame("Events", events_file).Define("y", "2.0 * x").Histo1D(model, "y"))
    gate = tmp_path / "gate"
    with emulated.get_client() as client:
        frame = slow(RDataFrame("Events", events_file, npartitions=10), tmp_path)
        histogram, pids = frame.Histo1D(model, "y"), frame.AsNumpy(["x", "pid"], lazy=True)
        futures = client.compute([histogram, pids])
        try:
            browser.driver.get(emulated.steering_link())
            browser.wait(lambda: "secret" not in browser.driver.current_url, "the address shows the secret")
            browser.wait(lambda: browser.text(".in-flight") == "2 / 2", "nothing is in flight")
            browser.wait(lambda: browser.text(".ranges").startswith("3 "), "the figures do not change")
            browser.wait(lambda: browser.text(".usd-foreseen"), "no cost is foreseen")
            assert NAME in browser.text("#running")
            browser.driver.find_element("css selector", "#execution-local input").click()
            browser.wait(lambda: emulated.execution == "local", "the click did nothing")
            gate.touch()
            histogram, columns = client.gather(futures)
        finally:
            gate.touch()
            emulated.execution = "emulated"
        browser.wait(lambda: browser.text(".ranges") == "10 / 10", "the page does not show the end")
        browser.wait(lambda: not browser.text("#running"), "there is a run to stop")
    assert contents(histogram) == expected
    check_places(dashboards.state(emulated)["ranges"], columns, emulated.report().runs[-1])
    assert browser.driver.title == "Dask: Lambda"
    assert browser.errors() == []


_FIGURES = """
const canvases = (root) => [...root.querySelectorAll("*")].flatMap((each) =>
  each.tagName === "CANVAS" ? [each] : each.shadowRoot ? canvases(each.shadowRoot) : []);
const found = [];
for (const doc of Bokeh.documents) {
  const row = doc.roots().find((root) => root.name === "histograms");
  for (const column of row ? row.children : []) {
    const [head, plot] = column.children;
    if (!column.visible) continue;
    const columns = plot.renderers.map(({ data_source: { data } }) => Array.from(data.value || data.y));
    const values = columns.find((each) => each.length) || [];
    // What is drawn, and not only what is to be drawn.
    const view = Bokeh.index.find_one(plot);
    const all = view && arguments[0] ? canvases(view.shadow_el) : [];
    const drawn = all.filter((each) => each.width * each.height > 0);
    found.push({ head: head.text, values, picture: drawn.map((each) => each.toDataURL()).join() });
  }
}
return found;
"""
"""The results on the page: what is written above each, its values, and its picture."""


def figures(browser, name, pictures=False):
    """Return what the page has of the results whose names contain another; pictures take long."""
    return [each for each in browser.run(_FIGURES, pictures) if html.escape(name) in each["head"]]


def drawn(browser, name):
    """Return those, once all of them have been drawn."""
    found = figures(browser, name, pictures=True)
    return found if all(each["picture"] for each in found) else []


def changed(browser, name, before):
    """Tell whether all of them are other pictures than before."""
    found = drawn(browser, name)
    return bool(found) and not before & {each["picture"] for each in found}


def test_histograms_fill(browser, local, tmp_path):
    """Pictures of one and two dimensions, profiles and graphs change in mid-run; the last is the result."""
    name = "<b>fills</b>"
    gates = [tmp_path / "first", tmp_path / "second"]
    code = value = "return rdfentry_ % 9 + 0.5;"
    for places, gate in ((range(10, 20), gates[1]), (range(10), gates[0])):
        wait = f'while (gSystem->AccessPathName("{gate}")) gSystem->Sleep(20);'
        code = f"if (rdfentry_ % 10 == 0 && {taken(places, tmp_path)}) {{ {wait} {code} }} {value}"
    browser.driver.get(f"{dashboards.base(local)}/lambda")
    with local.get_client() as client:
        frame = RDataFrame(400, npartitions=40).Define("x", code)
        frame = frame.Define("y", "0.01 * rdfentry_")
        results = [
            frame.Histo1D((name, "", 10, 0.0, 10.0), "x"),
            frame.Histo2D((f"{name}2", "", 10, 0.0, 10.0, 4, 0.0, 4.0), "x", "y"),
            frame.Profile1D((f"{name}3", "", 10, 0.0, 10.0), "x", "y"),
            frame.Graph("x", "y"),
        ]
        futures = client.compute(results)
        try:
            browser.wait(
                lambda: len(figures(browser, name)) == 3 and figures(browser, "Graph"), "no histograms"
            )
            first = browser.wait(lambda: drawn(browser, name), "nothing is drawn")
            assert all("% of the entries" in each["head"] for each in first)
            before = {each["picture"] for each in first}
            gates[0].touch()
            browser.wait(lambda: changed(browser, name, before), "nothing changes")
            assert futures[0].status == "pending"
            gates[1].touch()
            values = client.gather(futures)
        finally:
            for gate in gates:
                gate.touch()
        del futures
        browser.wait(lambda: all("all entries" in each["head"] for each in figures(browser, name)), "no end")
    # Dask has forgotten the results; the page has not.
    shown = [*figures(browser, name), *figures(browser, "Graph")]
    for figure, value in zip(shown, values, strict=True):
        columns = shapes.of(value).columns
        assert figure["values"] == list(columns["value"] if "value" in columns else columns["y"])
    assert name in browser.text(".histogram-name")
    assert browser.errors() == []


_RANGES = """
const [table] = Bokeh.documents.map((doc) => doc.get_model_by_name("ranges")).filter((each) => each);
const view = table && Bokeh.index.find_one(table);
return view && view.shadow_el ? view.shadow_el.textContent : "";
"""
"""The text of the table of ranges."""


def test_a_range_that_failed(browser, local):
    """Its row says how it is run again in the user's process, which shows the command for gdb."""
    browser.driver.get(f"{dashboards.base(local)}/lambda")
    browser.errors()  # of the page before, whose server has ended
    with local.get_client():
        frame = RDataFrame(400, npartitions=8)
        bad = 'if (rdfentry_ == 175) throw std::runtime_error("bad"); return double(rdfentry_);'
        with pytest.raises(UserCodeError):
            frame.Define("bad", bad).Sum("bad").GetValue()
        browser.wait(lambda: "failed" in browser.run(_RANGES), "the range that failed is not shown")
    assert browser.run(_RANGES).count("result.debug") == 1
    assert "result.debug(3)" in browser.run(_RANGES)
    assert browser.errors() == []


def check_places(ranges, columns, report):
    """Ranges that the page calls local ran in this process, the others in environments that were billed."""
    pids = columns["pid"][np.argsort(columns["x"])].reshape(10, 100)
    here = {
        index for index, where in zip(ranges["index"], ranges["execution"], strict=True) if where == "local"
    }
    assert ranges["index"] == list(range(10))
    assert 0 < len(here) < 10
    for index, of_range in enumerate(pids):
        assert len(set(of_range)) == 1
        assert (of_range[0] == os.getpid()) == (index in here)
    environments = {
        (environment, pids[index][0])
        for index, environment in zip(ranges["index"], ranges["environment"], strict=True)
        if index not in here
    }
    assert len(environments) == len({environment for environment, _ in environments}) <= 2
    assert set(report.executions) == {"emulated", "local"}
    assert report.usd > 0


def test_only_to_look_at(browser, emulated):
    """Without the secret the page shows everything, and nothing on it can be changed."""
    browser.driver.switch_to.new_window("tab")  # what another has learned of a secret, this one has not
    browser.driver.get(f"{dashboards.base(emulated)}/lambda")
    browser.wait(lambda: browser.text("#execution-local"), "the executions are not shown")
    inputs = "[...document.querySelectorAll('#steering input, #steering button')]"
    assert browser.run(f"return {inputs}.every((each) => each.disabled)")
    assert "steering_link()" in browser.text("#may")


def test_a_wrong_secret(browser, emulated):
    """A link of another cluster steers nothing: the page says so, and is one to look at from then on."""
    browser.driver.get(f"{dashboards.base(emulated)}/lambda#secret=wrong")
    browser.wait(lambda: browser.text("#execution-local"), "the executions are not shown")
    browser.driver.find_element("css selector", "#execution-local input").click()
    browser.wait(lambda: "only who has the secret" in browser.text("#said"), "nothing is said")
    assert emulated.execution == "emulated"
    disabled = "return document.querySelector('#execution-local input').disabled"
    browser.wait(lambda: browser.run(disabled), "it can be clicked again")
    assert browser.run("return document.querySelector('#execution-emulated input').checked")
    browser.errors()
