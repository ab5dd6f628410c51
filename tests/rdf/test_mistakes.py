"""Each mistake ends in one error, at the line where it was made, that says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from dask_root_lambda import RDataFrame
from dask_root_lambda.protocol.errors import GraphError, InputError


@pytest.fixture
def frame(events_file):
    return RDataFrame("Events", events_file, npartitions=4)


def test_a_missing_file(events_file, tmp_path):
    """Whichever file of a list is missing is named."""
    with pytest.raises(InputError, match=r"nowhere\.root: No such file"):
        RDataFrame("Events", [events_file, str(tmp_path / "nowhere.root")])


def test_a_missing_tree(events_file):
    """A wrong tree's name shows what the file holds."""
    with pytest.raises(InputError, match=r"holds no 'Evnts': it has Events \(TTree\)"):
        RDataFrame("Evnts", events_file)


def test_a_truncated_file(events_file, tmp_path):
    """A copy that ended early says so before anything runs."""
    path = tmp_path / "short.root"
    path.write_bytes(Path(events_file).read_bytes()[:2000])
    with pytest.raises(InputError, match=r"short\.root is truncated: 2,000 bytes of"):
        RDataFrame("Events", str(path))


def test_a_pattern_that_matches_nothing(tmp_path):
    """No file at all is an error, not an empty result."""
    with pytest.raises(InputError, match=r"no file matches .*none\*\.root"):
        RDataFrame("Events", str(tmp_path / "none*.root"))


def test_nonsense_arguments():
    """Arguments of no constructor are shown with what is possible."""
    with pytest.raises(GraphError, match="RDataFrame takes a tree's name with"):
        RDataFrame(object())


@pytest.mark.parametrize(
    ("action", "args"),
    [
        ("Sum", ("y",)),
        ("Histo1D", (("h", "", 1, 0, 1), "y")),
        ("Graph", ("x", "y")),
        ("AsNumpy", (["y"],)),
    ],
)
def test_an_unknown_column_of_an_action(frame, action, args):
    """The error names the column and close ones, at once."""
    with pytest.raises(GraphError, match=r"no column 'y'; (there are|did you mean)"):
        getattr(frame, action)(*args)


def test_an_unknown_column_of_an_expression(frame):
    """Cling's diagnostics, with the user's expression, are in the error."""
    with pytest.raises(GraphError, match=r"Filter\('nope > 1'\) does not work") as caught:
        frame.Filter("nope > 1")
    assert "use of undeclared identifier 'nope'" in str(caught.value)


def test_an_expression_that_does_not_compile(frame, capfd):
    """A syntax error shows the expression, once, and the frame can be used further."""
    with pytest.raises(GraphError, match=r"Define\('y', 'x \+\* 2'\) does not work") as caught:
        frame.Define("y", "x +* 2")
    assert str(caught.value).count("error: ") == 1
    assert "error" not in capfd.readouterr().err
    assert frame.Count().compute(scheduler="synchronous") == 1000


@pytest.mark.parametrize(
    ("operation", "arguments", "reason"),
    [
        ("Filter", ("x % 2",), "does not evaluate to bool"),
        ("Define", ("x", "1"), "Use Redefine to force redefinition"),
        ("Redefine", ("q", "1"), "Use Define to create a new column"),
        ("Define", ("a b", "1"), "Not a valid C++ variable name"),
        ("Vary", ("x", "x + 1", ["down", "up"]), "must return an RVec object"),
    ],
)
def test_what_root_refuses(frame, operation, arguments, reason):
    """ROOT's reason is told once, not the list of overloads that PyROOT has tried."""
    with pytest.raises(GraphError, match=f"(?s){operation}.* does not work") as caught:
        getattr(frame, operation)(*arguments)
    assert str(caught.value).count(reason) == 1
    assert "RInterface" not in str(caught.value)


def test_a_histogram_without_a_model(frame):
    """Histograms without binning cannot be merged; the error says how to give it."""
    with pytest.raises(GraphError, match=r"Histo1D\('x'\) has an automatic axis.*give the limits"):
        frame.Histo1D("x")


@pytest.mark.parametrize("action", ["Sum", "Max", "Histo1D"])
def test_calculating_with_text(frame, action):
    """ROOT's code would not compile where it runs; told at the user's line."""
    texts = frame.Define("s", "std::to_string(x)").Define("v", "std::vector<std::string>{s}")
    model = [("h", "", 5, 0.0, 1.0)] if action == "Histo1D" else []
    for column in ("s", "v"):
        with pytest.raises(GraphError, match=f"{action}.*'{column}' is a .*string.*, not a number"):
            getattr(texts, action)(*model, column)
    assert len(texts.Take["std::string"]("s").GetValue()) == 1000


def test_an_operation_that_does_not_exist(frame):
    """What cannot be run on ranges is refused with what can."""
    with pytest.raises(AttributeError, match="Foreach is not possible over ranges: Define columns"):
        frame.Foreach(lambda: None)


def test_user_code_that_raises(frame, local):
    """A C++ exception is raised by compute with what it said."""
    total = frame.Define("y", 'throw std::runtime_error("of the user"); return 1.;').Sum("y")
    with pytest.raises(Exception, match="raised runtime_error: of the user"):
        total.compute()
