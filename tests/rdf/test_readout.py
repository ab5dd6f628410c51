"""AsNumpy gives the arrays of local ROOT: in order, of the same types, for every kind of column."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from ROOT._distrdf.Backends.Base import BaseBackend

from dask_root_lambda import RDataFrame
from dask_root_lambda.protocol.errors import GraphError
from tests.conftest import ROOT, write_events

COLUMNS = {
    "whole": "x",
    "byte": "(unsigned char)(x % 200)",
    "wide": "Long64_t(x) << 40",
    "half": "x * 0.5f",
    "odd": "bool(x % 2)",
    "text": 'std::string(x % 3, "abc"[x % 3])',
    "rvec": "ROOT::RVecF(x % 4, float(x))",
    "rvec_of_bools": "ROOT::RVecB(x % 3, x % 2)",
    "doubles": "std::vector<double>(x % 3, 1.5 * x)",
    "three": "std::array<float, 3>{float(x), 1, 2}",
    "object": "ROOT::Math::PtEtaPhiMVector(x, 1, 2, 3)",
    "objects": "ROOT::RVec<ROOT::Math::PtEtaPhiMVector>(x % 3, ROOT::Math::PtEtaPhiMVector(x, 1, 2, 3))",
    "jagged": "ROOT::RVec<ROOT::RVecF>(x % 3, ROOT::RVecF{1, float(x)})",
    "deeper": "ROOT::RVec<ROOT::RVec<ROOT::RVecI>>(x % 2, ROOT::RVec<ROOT::RVecI>(2, ROOT::RVecI{x}))",
    "texts": 'ROOT::RVec<std::string>(x % 3, "abc")',
    "vector_of_vectors": "std::vector<std::vector<int>>(x % 3, std::vector<int>(x % 2, x))",
}
CUTS = {
    "everything": "x >= 0",
    "some ranges": "x > 500 && x < 700",
    "nothing": "x < 0",
}


def defined(frame, names=tuple(COLUMNS)):
    for name in names:
        frame = frame.Define(name, COLUMNS[name])
    return frame


def plain(value):
    """Return a value as something that compares by its content, with its type."""
    if isinstance(value, np.ndarray):
        return str(value.dtype), [plain(each) for each in value]
    if hasattr(value, "Pt"):
        return value.Pt(), value.M()
    if hasattr(value, "size") and "cppyy" in repr(type(value)):
        return type(value).__cpp_name__, [plain(each) for each in value]
    return type(value), value


def arrays(values):
    return {name: plain(array) for name, array in values.items()}


class TestArrays:
    """Over several ranges, of which some may keep nothing."""

    def test_every_kind_of_column(self, local, events_file):
        """Numbers, strings, vectors, arrays and objects are those of local ROOT, whatever a cut keeps."""
        whole = defined(ROOT.RDataFrame("Events", events_file))
        frame = defined(RDataFrame("Events", events_file, npartitions=5))
        expected, found = (
            {cut: each.Filter(CUTS[cut]).AsNumpy(list(COLUMNS), lazy=True) for cut in CUTS}
            for each in (whole, frame)
        )
        for cut in CUTS:
            assert arrays(found[cut].GetValue()) == arrays(expected[cut].GetValue())

    def test_from_environments(self, emulated, events_file):
        """And they travel."""
        names = ["rvec", "jagged", "text", "object"]
        expected = defined(ROOT.RDataFrame("Events", events_file), names).AsNumpy(names)
        with emulated.get_client():
            found = defined(RDataFrame("Events", events_file, npartitions=4), names).AsNumpy(names)
        assert arrays(found) == arrays(expected)
        assert arrays(pickle.loads(pickle.dumps(found))) == arrays(expected)

    def test_no_entries(self, local, tmp_path):
        """Arrays of a dataset without entries are empty, and of the column's type."""
        path = write_events(tmp_path / "empty.root", entries=0)
        expected = defined(ROOT.RDataFrame("Events", path)).AsNumpy(list(COLUMNS))
        assert arrays(defined(RDataFrame("Events", path)).AsNumpy(list(COLUMNS))) == arrays(expected)

    def test_a_type_of_the_users(self, local, events_file, monkeypatch):
        """A struct that DistributeCppCode declares."""
        monkeypatch.setattr(BaseBackend, "strings_to_declare", {})
        ROOT.RDF.Distributed.DistributeCppCode("struct DrlPair { int a = 0; double b = 0; };")
        frame = RDataFrame("Events", events_file, npartitions=3)
        found = frame.Define("p", "DrlPair{x, 2. * x}").AsNumpy(["p"])["p"]
        assert [(each.a, each.b) for each in found] == [(x, 2.0 * x) for x in range(1000)]


class TestArguments:
    """Those of local ROOT, in each of their ways."""

    @pytest.mark.parametrize(
        ("args", "kwargs"),
        [
            ((), {}),
            ((None, ["x"]), {}),
            ((("x",),), {}),
            (([],), {}),
            ((), {"columns": ["x", "pt"], "exclude": ["x"]}),
            ((), {"exclude": ROOT.std.vector["std::string"](["pt"])}),
        ],
    )
    def test_columns_and_exclude(self, local, events_file, args, kwargs):
        """The same columns, in the same order."""
        expected = ROOT.RDataFrame("Events", events_file).AsNumpy(*args, **kwargs)
        found = RDataFrame("Events", events_file, npartitions=3).AsNumpy(*args, **kwargs)
        assert list(found) == list(expected)
        assert arrays(found) == arrays(expected)

    def test_an_iterator_is_gone_through_once(self, local, events_file):
        """Columns may come from a generator."""
        frame = RDataFrame("Events", events_file, npartitions=3)
        assert list(frame.AsNumpy(name for name in ("pt", "x"))) == ["pt", "x"]

    def test_lazy_by_position(self, local, events_file):
        """The third argument is lazy, by whichever way."""
        lazy = RDataFrame("Events", events_file, npartitions=3).AsNumpy(["x"], None, True)
        assert local.report().total.ranges == 0
        assert lazy.GetValue()["x"].sum() == 499_500

    @pytest.mark.parametrize(
        ("args", "kwargs", "message"),
        [
            (("x",), {}, "list of names for columns, given: 'x'"),
            ((), {"exclude": "x"}, "list of names for exclude, given: 'x'"),
            ((["x"],), {"column": ["x"]}, "unexpected keyword argument 'column'; it takes columns"),
            ((["z"],), {}, "no column 'z'"),
            ((), {"exclude": ["x", "pt"]}, "exclude leaves no column"),
        ],
    )
    def test_mistakes(self, events_file, args, kwargs, message):
        """They are told at the user's line."""
        with pytest.raises(GraphError, match=message):
            RDataFrame("Events", events_file).AsNumpy(*args, **kwargs)

    @pytest.mark.parametrize(
        "expression",
        ["std::optional<int>(x)", "std::variant<int, float>(x)", "std::vector<ROOT::RVec<ROOT::RVecF>>(2)"],
    )
    def test_objects_that_root_cannot_write(self, events_file, expression):
        """They would arrive changed, or end the process: they are refused."""
        frame = RDataFrame("Events", events_file).Define("o", expression)
        with pytest.raises(GraphError, match=r"'o' is a .* cannot write .* without a dictionary: Define"):
            frame.AsNumpy(["x", "o"])
        assert frame.AsNumpy(["x", "o"], exclude=["o"], lazy=True).node.operation.kwargs["exclude"] == ["o"]
