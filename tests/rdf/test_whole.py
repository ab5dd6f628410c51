"""Quantities of the whole data set: a range gives what local ROOT gives over all of it."""

from __future__ import annotations

import numpy as np
import pytest
from ROOT._distrdf.Backends.Base import BaseBackend

from dask_root_lambda import RDataFrame
from dask_root_lambda.protocol.errors import GraphError, InputError, UserCodeError
from lambda_runtime import variables
from tests.conftest import ROOT

LENGTHS = (300, 1, 0, 450, 120)


def write(path, *, entries, first=0, tree="Events", mode="RECREATE", rntuple=False):
    """Write ``x``, which counts from ``first``, in clusters of 50 entries."""
    options = ROOT.RDF.RSnapshotOptions()
    options.fMode = mode
    if rntuple:
        options.fOutputFormat = ROOT.RDF.ESnapshotOutputFormat.kRNTuple
    else:
        options.fAutoFlush = 50
    frame = ROOT.RDataFrame(entries).Define("x", f"{first} + double(rdfentry_)")
    frame.Snapshot(tree, str(path), ["x"], options)
    return str(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Data sets of files of several lengths, one of them empty; their ``x`` is the entry of the data set."""
    folder = tmp_path_factory.mktemp("whole")
    for kind in ("tree", "rntuple"):
        first = 0
        for index, entries in enumerate(LENGTHS):
            write(folder / f"{kind}{index}.root", entries=entries, first=first, rntuple=kind == "rntuple")
            first += entries
    return folder


@pytest.fixture
def here(folder, monkeypatch):
    """The user's directory is that of the data sets."""
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Two files of two trees, each of another value."""
    folder = tmp_path_factory.mktemp("pairs")
    for name, values in {"F": (1, 10), "G": (100, 1000)}.items():
        for tree, entries, value, mode in zip(
            ("t1", "t2"), (300, 200), values, ("RECREATE", "UPDATE"), strict=True
        ):
            options = ROOT.RDF.RSnapshotOptions()
            options.fAutoFlush, options.fMode = 50, mode
            frame = ROOT.RDataFrame(entries).Define("x", f"double({value})")
            frame.Snapshot(tree, str(folder / f"{name}.root"), ["x"], options)
    return folder


@pytest.fixture
def code(monkeypatch):
    """Distributes C++ code, for the time of the test."""
    monkeypatch.setattr(BaseBackend, "strings_to_declare", {})
    return ROOT.RDF.Distributed.DistributeCppCode


def names(kind="tree"):
    return [f"{kind}{index}.root" for index in range(len(LENGTHS))]


def specification(*, friends=False):
    spec = ROOT.RDF.Experimental.RDatasetSpec()
    spec.AddSample(("one", "Events", names()[:3])).AddSample(("two", "Events", names()[3:]))
    if friends:
        spec.WithGlobalFriends("Events", names(), "friend")
    return spec


def chain(*, friends=False):
    chain = ROOT.TChain("Events")
    for name in names():
        chain.Add(name)
    if friends:
        friend = ROOT.TChain("Events")
        for name in reversed(names()):
            friend.Add(name)
        chain.AddFriend(friend, "friend")
        chain.friend = friend
    return chain


SOURCES = {
    "files": lambda: ("Events", names()),
    "RNTuples": lambda: ("Events", names("rntuple")),
    "specification": lambda: (specification(),),
    "chain": lambda: (chain(),),
    "friends": lambda: (chain(friends=True),),
    "specification with friends": lambda: (specification(friends=True),),
    "a file twice": lambda: ("Events", [*names(), names()[0]]),
    "entries": lambda: (871,),
}


@pytest.fixture(params=SOURCES)
def source(request, here):
    """Makes the arguments of a constructor."""
    return SOURCES[request.param]


def results(actions):
    return [action.GetValue() for action in actions]


class TestEntryNumbers:
    """``rdfentry_`` and ``tdfentry_`` are the numbers of entries in the data set."""

    @staticmethod
    def book(frame):
        defined = frame.Define("w", "double(tdfentry_)")
        again = frame.Redefine("rdfentry_", "rdfentry_ * 2")
        varied = frame.Vary("rdfentry_", "ROOT::RVec<ULong64_t>{rdfentry_ + 7}", 1)
        histogram = frame.Histo1D(("h", "", 9, 0, 900), "rdfentry_")
        return [
            frame.Filter("rdfentry_ < 310").Count(),
            defined.Sum("w"),
            defined.Filter("w > 299 && w < 305").Max("rdfentry_"),
            again.Sum("rdfentry_"),
            varied.Max("rdfentry_"),
            frame.Alias("n", "rdfentry_").Mean("n"),
            frame.Sum("tdfentry_"),
        ], histogram

    @pytest.mark.parametrize("npartitions", [1, 3, 7])
    def test_numbers(self, local, source, npartitions):
        """Wherever they are named, of whichever data set, in however many ranges."""
        ours, histogram = self.book(RDataFrame(*source(), npartitions=npartitions))
        roots, expected = self.book(ROOT.RDataFrame(*source()))
        assert results(ours) == results(roots)
        assert list(histogram.GetValue()) == list(expected.GetValue())

    def test_columns(self, local, here):
        """What is written and read as columns."""
        frame = RDataFrame("Events", names(), npartitions=4)
        columns = frame.AsNumpy(["rdfentry_", "x"])
        assert np.array_equal(columns["rdfentry_"], columns["x"])
        copied = frame.Define("n", "rdfentry_").Snapshot("Copy", str(here / "copy.root"), ["n", "x"])
        assert copied.Filter("n != x").Count().GetValue() == 0

    def test_graphs_side_by_side(self, local, here):
        """Ranges of several graphs and threads in one process, whose compiled graphs are used again."""
        frames = [RDataFrame("Events", names()[index:], npartitions=6) for index in (0, 1, 3)]
        offsets = [sum(LENGTHS[:index]) for index in (0, 1, 3)]
        for _ in range(2):
            wrong = [
                frame.Filter(f"rdfentry_ + {offset} != x").Count()
                for frame, offset in zip(frames, offsets, strict=True)
            ]
            assert ROOT.RDF.RunGraphs(wrong) == 3
            assert results(wrong) == [0, 0, 0]

    def test_one_file_and_several(self, local, here):
        """A graph that was compiled for one file does not serve several, which have an offset."""
        for files in (names()[:1], names()):
            frame = RDataFrame("Events", files, npartitions=3)
            assert frame.Filter("rdfentry_ != x || x < 0").Count().GetValue() == 0

    def test_in_environments(self, emulated, here):
        """Where ranges run in other processes, with compiled graphs that are used again."""
        with emulated.get_client():
            for kind in ("tree", "rntuple"):
                frame = RDataFrame("Events", names(kind), npartitions=6)
                assert frame.Filter("rdfentry_ != x").Count().GetValue() == 0

    def test_files_are_counted_only_where_it_is_named(self, local, here, monkeypatch):
        """Nobody opens files for other graphs."""
        monkeypatch.setattr("dask_root_lambda.rdf.whole.entries", None)
        frame = RDataFrame("Events", names(), npartitions=4)
        assert frame.Define("rdfentry_x", "x").Sum("rdfentry_x").GetValue() == sum(range(871))


class TestSampleInformation:
    """``rdfsampleinfo_`` tells what it tells in local ROOT, of whole files, under the user's names."""

    EXPRESSIONS = (
        'rdfsampleinfo_.Contains("whole") ? 1. : 0.',
        'rdfsampleinfo_.AsString() == "tree0.root/Events" ? 1. : 0.',
        'if (rdfsampleinfo_.Contains("tree3")) return 3.; return 0.;',
        "double(rdfsampleinfo_.NEntries())",
        "double(rdfsampleinfo_.NEntriesTotal())",
        "double(rdfsampleinfo_.EntryRange().second)",
        "double(rdfsampleinfo_.AsString().size()) // with a comment",
        "rdfsampleinfo_.Empty() ? 1. : 0.",
    )

    @classmethod
    def book(cls, frame):
        return [frame.DefinePerSample("k", expression).Sum("k") for expression in cls.EXPRESSIONS]

    @pytest.mark.parametrize("npartitions", [1, 4])
    def test_information(self, local, source, npartitions):
        """Names, and lengths, of files of whichever data set."""
        ours = results(self.book(RDataFrame(*source(), npartitions=npartitions)))
        roots = results(self.book(ROOT.RDataFrame(*source())))
        if source is SOURCES["RNTuples"]:
            # Local ROOT takes the length of the first file for that of the others.
            roots[4] = float(sum(length**2 for length in LENGTHS))
        assert ours == roots

    @pytest.mark.parametrize(
        "name", ["./tree0.root", "$WHOLE/tree0.root", "~/tree0.root", "tree[0-1].root", "./tree*.root"]
    )
    def test_names(self, local, here, monkeypatch, name):
        """However the user writes them: expanded as ROOT does it, and not otherwise."""
        monkeypatch.setenv("WHOLE", ".")
        monkeypatch.setenv("HOME", str(here))
        expression = "double(std::hash<std::string>()(rdfsampleinfo_.AsString()) % 1000)"
        ours, roots = (
            make("Events", name).DefinePerSample("k", expression).Sum("k").GetValue()
            for make in (RDataFrame, ROOT.RDataFrame)
        )
        assert ours == roots

    def test_in_environments(self, emulated, here):
        """Where ranges run in other processes, in other directories."""
        with emulated.get_client():
            assert results(self.book(RDataFrame("Events", names(), npartitions=4))) == results(
                self.book(ROOT.RDataFrame("Events", names()))
            )

    def test_a_file_with_two_names(self, local, here):
        """Local ROOT tells one from the other; a range cannot."""
        frame = RDataFrame("Events", ["tree0.root", "./tree0.root"], npartitions=2)
        named = frame.DefinePerSample("k", 'rdfsampleinfo_.Contains("./") ? 1. : 0.').Sum("k")
        with pytest.raises(GraphError, match=r"is named twice, as tree0.root and as ./tree0.root"):
            named.GetValue()


class TestOneAtATime:
    """What the user keeps by slot, or in a function between its calls, is right for one range at a time."""

    CODE = """
    std::vector<double> kept_by_slot(1);
    double by_slot(unsigned int slot, double x) {
        kept_by_slot[slot] = x;
        for (int i = 0; i < 200; ++i) kept_by_slot[slot] += (i % 2) ? -1 : 1;
        return kept_by_slot[slot];
    }
    double by_static(double x) {
        static volatile double kept = 0;
        kept = x;
        for (int i = 0; i < 200; ++i) kept = kept + ((i % 2) ? -1 : 1);
        return kept;
    }
    """

    @pytest.mark.parametrize("expression", ["by_slot(rdfslot_, x)", "by_slot(tdfslot_, x)", "by_static(x)"])
    def test_values(self, local, here, code, expression):
        """Ranges of one process, in two threads; there is one slot, as in local ROOT."""
        code(self.CODE)
        frame = RDataFrame(20_000, npartitions=8).Define("x", "double(rdfentry_)").Define("y", expression)
        assert frame.Filter("x != y").Count().GetValue() == 0


class TestVariables:
    """Variables of numbers and texts in distributed code are where it runs what Python made of them."""

    CODE = """
    double variable_cut = 10;
    namespace of_mine { bool strict = false; std::string label = "a"; inline namespace inner { int n{1}; } }
    const double variable_constant = 1;
    bool variable_known = false;
    bool known() { bool before = variable_known; variable_known = true; return before; }
    """

    @pytest.fixture
    def code(self, code):
        code(self.CODE)
        yield
        ROOT.variable_cut, ROOT.of_mine.strict, ROOT.of_mine.label = 10, False, "a"

    @staticmethod
    def book(frame):
        kept = frame.Filter("x < variable_cut && !(of_mine::strict && x < 1)")
        return kept.Define("y", "x * of_mine::label.size() + of_mine::inner::n").Sum("y")

    def check(self):
        frame, local = (make("Events", names()) for make in (RDataFrame, ROOT.RDataFrame))
        for cut, strict, label in ((10, False, "a"), (20, True, "ab"), (10, False, "a")):
            ROOT.variable_cut, ROOT.of_mine.strict, ROOT.of_mine.label = cut, strict, label
            assert self.book(frame).GetValue() == self.book(local).GetValue()

    def test_in_this_process(self, local, here, code):
        """A changed value is another run, and a value that comes back the first one."""
        self.check()

    def test_in_environments(self, emulated, here, code):
        """The values travel with each graph."""
        with emulated.get_client():
            self.check()

    def test_a_result_is_booked_before_the_change(self, local, here, code):
        """What counts is the value when it is computed."""
        booked = self.book(RDataFrame("Events", names(), npartitions=3))
        keys = booked.__dask_keys__()
        ROOT.variable_cut = 30
        assert booked.__dask_keys__() != keys
        assert booked.GetValue() == self.book(ROOT.RDataFrame("Events", names())).GetValue()

    def test_a_change_on_the_way_is_an_error(self, local, here, code):
        """The user's own process is not changed behind his back, so the ranges that are left cannot run."""
        booked = self.book(RDataFrame("Events", names(), npartitions=3))
        graph, keys = booked.__dask_graph__(), booked.__dask_keys__()
        ROOT.variable_cut = 30
        with pytest.raises(UserCodeError, match=r"variable_cut is 30.0, and was 10.0 when"):
            local.get_client().get(graph, keys)

    def test_what_functions_set_stays_where_it_is(self, emulated, here, code):
        """That a function has done something in this process is not so in another one."""
        assert ROOT.RDataFrame(2).Filter("known()").Count().GetValue() == 1
        with emulated.get_client():
            assert RDataFrame(2, npartitions=1).Filter("known()").Count().GetValue() == 1


def test_variables_that_code_declares():
    """Neither constants, nor what is inside functions and classes, nor what functions assign to."""
    code = """
    #define CUT 3
    double a = 1, b = f(1, 2), c{3}; /* int comment; */ static bool d; std::string e = "int text; {";
    const int constant = 1; extern int other; using T = int; int function(int x, int y);
    int done = 0; double g(double x) { static int inside = 0; done = 1; return x == a ? x : 0; }
    struct S { int member; }; namespace n::m { namespace { float h; } namespace k { unsigned int i = 1; } }
    """
    assert variables.declared(code) == ("a", "b", "c", "d", "e", "n::m::h", "n::m::k::i")


class TestSpecifications:
    """Samples of several trees, of one name, in any number of ranges."""

    @staticmethod
    def specification(*samples):
        spec = ROOT.RDF.Experimental.RDatasetSpec()
        for name, trees, files, xsec in samples:
            metadata = ROOT.RDF.Experimental.RMetaData()
            metadata.Add("xsec", xsec)
            spec.AddSample((name, trees, files, metadata))
        return spec

    @staticmethod
    def book(frame):
        for name, expression in {
            "xsec": 'rdfsampleinfo_.GetD("xsec")',
            "id": "double(rdfsampleinfo_.GetSampleId())",
            "is_a": 'rdfsampleinfo_.GetSampleName() == "A" ? 1. : 0.',
            "in_f": 'rdfsampleinfo_.Contains("F.root/t1") ? 1. : 0.',
        }.items():
            frame = frame.DefinePerSample(name, expression)
        weighted = frame.Define("wx", "xsec * x").Define("n", "double(rdfentry_) * id")
        return [weighted.Sum(name) for name in ("x", "wx", "id", "is_a", "in_f", "n")]

    @pytest.mark.parametrize("npartitions", [1, 2, 3, 4, 5, 7, 11, 20])
    @pytest.mark.parametrize("called", ["CAB", "AAA"])
    def test_samples_of_several_trees(self, local, pairs, monkeypatch, called, npartitions):
        """Right sums, metadata, names and numbers of samples."""
        monkeypatch.chdir(pairs)
        spec = self.specification(
            (called[0], ["t1"], ["G.root"], 2.0),
            (called[1], ["t1", "t2"], ["F.root", "G.root"], 3.0),
            (called[2], ["t2"], ["F.root"], 5.0),
        )
        # The specification is the user's, who may use it again.
        ours = [results(self.book(RDataFrame(spec, npartitions=npartitions))) for _ in range(2)]
        assert ours == [results(self.book(ROOT.RDataFrame(spec)))] * 2
        assert ours[0][0] == 232_300

    def test_a_file_of_two_samples(self, pairs, monkeypatch):
        """ROOT would take both for the first, without a word."""
        monkeypatch.chdir(pairs)
        spec = self.specification(("A", ["t1"], ["F.root"], 2.0), ("B", ["t1"], ["F.root"], 3.0))
        with pytest.raises(GraphError, match=r"F.root with its tree t1 is in two samples"):
            RDataFrame(spec, npartitions=2)


class TestColumnsThatFilesLack:
    """Files whose columns differ: as in local ROOT, or its error."""

    @pytest.fixture(scope="class")
    @staticmethod
    def files(tmp_path_factory):
        """Two with a column ``y``, two without."""
        folder = tmp_path_factory.mktemp("lacking")
        options = ROOT.RDF.RSnapshotOptions()
        options.fAutoFlush = 50
        for name, columns in {"a": ["x", "y"], "b": ["x"], "c": ["x", "y"], "d": ["x"]}.items():
            frame = ROOT.RDataFrame(200).Define("x", "double(rdfentry_)").Define("y", "1 + x")
            frame.Snapshot("Events", str(folder / f"{name}.root"), columns, options)
        return [str(folder / f"{name}.root") for name in "abcd"]

    @staticmethod
    def book(frame):
        return [
            frame.FilterAvailable("y").Sum("y"),
            frame.FilterMissing("y").Sum("rdfentry_"),
            frame.DefaultValueFor("y", 7.0).Sum("y"),
            frame.DefaultValueFor("y", 7.0).Filter("y == rdfentry_ + 1").Count(),
        ]

    @pytest.mark.parametrize("npartitions", [1, 2, 4, 7])
    def test_what_is_made_for_them(self, local, files, npartitions):
        """Whichever files a range has."""
        ours = self.book(RDataFrame("Events", files, npartitions=npartitions))
        assert results(ours) == results(self.book(ROOT.RDataFrame("Events", files)))

    @pytest.mark.parametrize("npartitions", [2, 3, 4, 7])
    def test_entries_that_are_cut_before(self, local, files, npartitions):
        """A column that some files lack can be named where no entry of theirs is read, as in local ROOT."""

        def book(frame):
            kept = frame.Filter("rdfentry_ < 150 || rdfentry_ >= 400 && rdfentry_ < 600")
            return [kept.Max("y"), kept.Define("z", "y * rdfentry_").Sum("z"), frame.Count()]

        ours = book(RDataFrame("Events", files, npartitions=npartitions))
        assert results(ours) == results(book(ROOT.RDataFrame("Events", files)))

    def test_without(self, local, files):
        """ROOT's error names the column."""
        with pytest.raises(UserCodeError, match="y"):
            RDataFrame("Events", files, npartitions=4).Sum("y").GetValue()


class TestDefaultColumns:
    """The third argument of a constructor: columns of actions that name none."""

    ACTIONS = (
        ("Mean", ()),
        ("Sum", ("",)),
        ("Histo1D", (("h", "", 5, 0.0, 900.0),)),
        ("Histo2D", (("h", "", 5, 0.0, 900.0, 5, 0.0, 900.0),)),
        ("Profile1D", (("h", "", 5, 0.0, 900.0),)),
        ("Mean", ("y",)),
    )

    @classmethod
    def book(cls, make, *args):
        frame = make(*args, ["x", "y"]).Define("y", "2 * x")
        return [getattr(frame, name)(*arguments) for name, arguments in cls.ACTIONS]

    @pytest.mark.parametrize("source", ["files", "RNTuples", "chain"])
    def test_values(self, local, here, source):
        """Those of the frame, as in local ROOT."""
        ours, roots = (self.book(make, *SOURCES[source]()) for make in (RDataFrame, ROOT.RDataFrame))
        assert [self.value(result) for result in ours] == [self.value(result) for result in roots]

    @staticmethod
    def value(result):
        value = result.GetValue()
        return value if isinstance(value, float) else (value.GetEntries(), value.GetMean(), value.GetRMS())

    @pytest.mark.parametrize("default", [[], ["x"]])
    def test_too_few(self, here, default):
        """An error at the user's line."""
        frame = RDataFrame("Events", names(), default)
        with pytest.raises(GraphError, match="Graph was given no columns and takes 2"):
            frame.Graph()


def test_indexed_friends(here):
    """They are refused: a range would take the friend's entry of the same number."""
    chained = chain(friends=True)
    chained.friend.BuildIndex("x")
    with pytest.raises(GraphError, match=r"the friend Events of Events has an index"):
        RDataFrame(chained, npartitions=2)


def test_names_that_are_patterns(tmp_path):
    """A file whose own name is a pattern is refused: ROOT would read what matches it, where ranges run."""
    name = write(tmp_path / "a*b.root", entries=10)
    write(tmp_path / "aXb.root", entries=10)
    with pytest.raises(InputError, match=r"a\*b.root is a pattern to ROOT"):
        RDataFrame("Events", [name], npartitions=2)


@pytest.mark.parametrize("tree", ["My Tree", "Evénts", "t#1", "t?x", "t.u", "directory/tree"])
def test_names_of_trees_and_files(local, tmp_path, tree):
    """Spaces, accents, what means something in URLs; trees in directories."""
    files = [str(tmp_path / name) for name in ("a b.root", "é%20+.root")]
    for name in files:
        with ROOT.TFile.Open(name, "RECREATE") as file:
            folder = file.mkdir("directory") if "/" in tree else file
            made, x = ROOT.TTree(tree.rpartition("/")[2], ""), np.array([0.0])
            made.Branch("x", x, "x/D")
            made.SetAutoFlush(50)
            for x[0] in range(200):
                made.Fill()
            folder.WriteObject(made, made.GetName())
    values = [
        [
            frame.Sum("x").GetValue(),
            frame.Filter("rdfentry_ < 210").Count().GetValue(),
            frame.DefinePerSample("n", "double(rdfsampleinfo_.AsString().size())").Sum("n").GetValue(),
        ]
        for frame in (RDataFrame(tree, files, npartitions=5), ROOT.RDataFrame(tree, files))
    ]
    assert values[0] == values[1]
