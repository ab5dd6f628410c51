"""The demo: its generator, its analysis and its picture."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import ROOT
from hypothesis import given
from hypothesis import strategies as st

from dask_root_lambda.demo import DEFAULT_EVENTS, analysis, dataset, generator, plot, run
from dask_root_lambda.demo.analysis import Analysis, CutFlow
from dask_root_lambda.demo.run import Request
from dask_root_lambda.protocol.errors import ConfigurationError, InputError
from tests.conftest import SHARED

PAIRS = "nMuon == 2 && Muon_charge[0] != Muon_charge[1]"
MASS = "ROOT::VecOps::InvariantMass(Muon_pt, Muon_eta, Muon_phi, Muon_mass)"


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def generated(cache):
    """200,000 generated events."""
    return generator.dataset(200_000, cache)


@pytest.fixture(scope="module")
def spectrum(cache):
    """Local ROOT's spectrum of the events that the demo generates by default."""
    return local_spectrum(generator.dataset(DEFAULT_EVENTS, cache))


@pytest.fixture(scope="module")
def two_million(tmp_path_factory):
    """2,000,000 events made of the real ones, in 80 clusters."""
    tool = SHARED / "tools" / "make_dimuon_dataset.py"
    if not tool.is_file():
        pytest.skip("needs ../shared/tools/make_dimuon_dataset.py, which is not here")
    path = tmp_path_factory.mktemp("dimuon") / "two_million.root"
    subprocess.run([sys.executable, "-W", "ignore", tool, path, "20"], check=True, timeout=200)
    return str(path)


def masses(path):
    return ROOT.RDataFrame("Events", str(path)).Filter(PAIRS).Define("mass", MASS)


def local_spectrum(path):
    histogram = masses(path).Histo1D(
        ("local", "", analysis.BINS, analysis.LOW_GEV, analysis.HIGH_GEV), "mass"
    )
    return histogram.GetValue().Clone()


def contents(histogram):
    return [histogram.GetBinContent(index) for index in range(histogram.GetNbinsX() + 2)]


def muon_counts(path):
    histogram = ROOT.RDataFrame("Events", str(path)).Histo1D(("n", "", 6, -0.5, 5.5), "nMuon")
    return contents(histogram)[1:7]


# The generator


def test_generated_counts_are_the_same_everywhere(generated):
    """Counts depend on seed and size alone: these were written down on another run."""
    assert muon_counts(generated) == [6074, 27865, 110153, 39959, 15949, 0]
    assert masses(generated).Count().GetValue() == 82_699
    assert ROOT.RDataFrame("Events", str(generated)).Sum("Muon_charge").GetValue() == 296


def test_a_smaller_dataset_is_the_head_of_a_larger_one(generated, cache):
    """Each event is drawn by its number, whatever the size and the clusters of the file."""
    small = ROOT.RDataFrame("Events", str(generator.dataset(1000, cache))).AsNumpy(["Muon_pt", "Muon_charge"])
    large = ROOT.RDataFrame("Events", str(generated)).Range(1000).AsNumpy(["Muon_pt", "Muon_charge"])
    for name in small:
        assert [list(event) for event in small[name]] == [list(event) for event in large[name]]


def test_a_dataset_can_be_divided_into_64_ranges_and_more(generated):
    """It has 64 clusters, and no cluster has more than 25,000 events."""
    with ROOT.TFile.Open(str(generated)) as file:
        clusters = file.Get("Events").GetClusterIterator(0)
        starts = [clusters.Next()]
        while starts[-1] < 200_000:
            starts.append(clusters.Next())
    assert len(starts) - 1 == 64
    assert max(later - earlier for earlier, later in itertools.pairwise(starts)) <= 25_000


def test_generated_muons_are_like_recorded_ones(generated):
    """Each is within the detector, has the muon's mass, and they are sorted by transverse momentum."""
    frame = ROOT.RDataFrame("Events", str(generated)).Filter("nMuon > 0")
    assert frame.Min("Muon_pt").GetValue() >= 3
    assert frame.Define("reach", "Max(abs(Muon_eta))").Max("reach").GetValue() <= 2.4
    assert frame.Define("turn", "Max(abs(Muon_phi))").Max("turn").GetValue() < 3.141593
    assert frame.Min("Muon_mass").GetValue() == pytest.approx(0.1056583755, rel=1e-6)
    assert frame.Filter("!(Reverse(Sort(Muon_pt)) == Muon_pt)[0]").Count().GetValue() == 0


@pytest.mark.parametrize(
    ("low_gev", "high_gev", "mass_gev", "width_gev"),
    [(2.99, 3.21, 3.0969, 0.008 * 3.0969), (9.25, 9.68, 9.4604, 0.008 * 9.4604)],
)
def test_narrow_resonances_have_the_pdg_mass_and_the_detectors_width(
    generated, low_gev, high_gev, mass_gev, width_gev
):
    """A Gaussian on a flat background, fitted to the pairs' invariant mass, finds what was drawn."""
    histogram = masses(generated).Histo1D(("peak", "", 50, low_gev, high_gev), "mass").GetValue()
    shape = ROOT.TF1("shape", "gaus(0) + [3]", low_gev, high_gev)
    shape.SetParameters(histogram.GetMaximum(), mass_gev, width_gev, histogram.GetMinimum())
    fit = histogram.Fit(shape, "QSN")
    assert abs(fit.Parameter(1) - mass_gev) < 4 * fit.ParError(1) + 1e-4
    assert abs(fit.Parameter(2) - width_gev) < 4 * fit.ParError(2) + 1e-4


def test_the_z_has_its_natural_width_and_the_detectors(generated):
    """A Breit-Wigner convolved with a Gaussian fits it, with the PDG's mass and width."""
    histogram = masses(generated).Histo1D(("z", "", 60, 76, 106), "mass").GetValue()
    shape = ROOT.TF1("voigt", "[0]*TMath::Voigt(x-[1],[2],[3]) + [4]", 76, 106)
    shape.SetParameters(histogram.Integral() / 2, 91.188, 0.008 * 91.188, 2.4955, 10)
    shape.FixParameter(3, 2.4955)
    fit = histogram.Fit(shape, "QSN")
    assert abs(fit.Parameter(1) - 91.188) < 4 * fit.ParError(1)
    assert abs(fit.Parameter(2) - 0.008 * 91.188) < 4 * fit.ParError(2) + 0.1


def test_a_dataset_is_generated_once(cache):
    """What is there is used as it is."""
    path = generator.dataset(1000, cache)
    before = path.stat()
    assert generator.dataset(1000, cache) == path
    assert path.stat() == before
    assert "1000" in path.name


def test_another_generator_makes_another_file(cache, monkeypatch):
    """Events of an older version are never taken for those of a newer one."""
    before = generator.location(1000, cache)
    monkeypatch.setattr(generator, "SEED", 1)
    assert generator.location(1000, cache) != before


def test_an_interrupted_generation_leaves_nothing(tmp_path, monkeypatch):
    """After Ctrl-C in mid-write there is no file, neither whole nor in part."""

    def interrupted(path, events):
        path.write_bytes(b"root, in part")
        raise KeyboardInterrupt

    monkeypatch.setattr(generator, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        generator.dataset(1000, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_generation_left_is_removed_by_the_next(tmp_path):
    """A part that nobody has written to for long goes; a fresh one is somebody's."""
    old, new = tmp_path / ".dimuon-1.7.partial.root", tmp_path / ".dimuon-1.8.partial.root"
    for path in (old, new):
        path.write_bytes(b"")
    os.utime(old, (time.time() - 7200,) * 2)
    kept = generator.dataset(10, tmp_path)
    assert set(tmp_path.iterdir()) == {new, kept}


def test_the_first_of_two_writers_wins(tmp_path, monkeypatch):
    """A file that appeared meanwhile stays: another run may be reading it."""
    target = generator.location(10, tmp_path)

    def overtaken(path, events):
        path.write_bytes(b"second")
        target.write_bytes(b"first")

    monkeypatch.setattr(generator, "_write", overtaken)
    assert generator.dataset(10, tmp_path).read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_is_a_clear_error_and_leaves_nothing(tmp_path):
    """With at most 1 MB to write, a dataset of 4 MB ends in an error that names the file."""
    code = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from dask_root_lambda.demo import generator\n"
        "from dask_root_lambda.protocol.errors import ConfigurationError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, 10**6))\n"
        "try:\n"
        "    generator.dataset(100_000, Path(sys.argv[1]))\n"
        "except ConfigurationError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, tmp_path],
        capture_output=True, text=True, timeout=100, check=True,
    )  # fmt: skip
    assert "cannot be written" in done.stdout
    assert str(tmp_path) in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("events", [0, -1, 10**12])
def test_an_impossible_size_is_refused(events, tmp_path):
    """The error gives the number and the range."""
    with pytest.raises(ConfigurationError, match=rf"events is {events}: .* from 1 to 1,000,000,000"):
        generator.dataset(events, tmp_path)


def test_the_cache_is_where_the_user_says(tmp_path, monkeypatch):
    """XDG_CACHE_HOME is followed if it is absolute; otherwise it is ~/.cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert generator.location(5).parent == tmp_path / "dask-root-lambda"
    monkeypatch.setenv("XDG_CACHE_HOME", "somewhere")
    assert generator.location(5).parent == Path.home() / ".cache" / "dask-root-lambda"


# What is read


def test_only_data_from_cms_is_called_cms_open_data(tmp_path):
    """A place below CERN's open data says so; a file's name does not."""
    assert dataset.choose([dataset.CERN_FILE], None, "local").title == "CMS Open Data"
    assert dataset.choose(["/data/cms2012.root"], None, "local").title == "cms2012.root"
    assert dataset.choose(["/data/a.root", dataset.CERN_FILE], None, "local").title == "2 files"


def test_lambda_reads_cerns_data_unless_told_otherwise():
    """A file that is made here is out of AWS's reach."""
    assert dataset.choose(None, None, "lambda").files == (dataset.CERN_FILE,)
    with pytest.raises(ConfigurationError, match="--events makes a file on this machine"):
        dataset.choose(None, 1000, "lambda")


# The analysis


def test_real_data_gives_the_known_counts(dimuon_file):
    """100,000 CMS events, 48,976 with two muons, 37,183 pairs of mean mass 33.0394412 GeV."""
    outcome = analysis.run(Analysis((dimuon_file,), execution="local"))
    assert outcome.cut_flow == CutFlow(100_000, 48_976, 37_183)
    assert f"{outcome.mean_mass_gev:.9g}" == "33.0394412"
    assert contents(outcome.spectrum) == contents(local_spectrum(dimuon_file))


def test_an_rntuple_is_analysed_as_well(cms_data):
    """415 pairs of mean mass 35.043047 GeV in the first 1,000 events."""
    path = str(cms_data / "cms2012_doublemuon_1000_rntuple.root")
    outcome = analysis.run(Analysis((path,), execution="local"))
    assert (outcome.cut_flow.all_events, outcome.cut_flow.opposite_charge) == (1000, 415)
    assert outcome.mean_mass_gev == pytest.approx(35.043047, abs=5e-7)


def test_all_results_come_from_one_event_loop(generated):
    """Each entry is processed once, in as many ranges as asked for."""
    report = analysis.run(Analysis((str(generated),), execution="local", npartitions=8)).report
    assert len(report.runs) == 1
    assert (report.total.ranges, report.total.invocations, report.total.entries) == (8, 8, 200_000)


def test_two_million_events_on_emulated_lambda_equal_local_root(two_million):
    """In 32 ranges: 979,520 with two muons, 743,660 pairs, and every bin is local ROOT's."""
    outcome = analysis.run(Analysis((two_million,), execution="emulated", npartitions=32, concurrency=2))
    assert outcome.cut_flow == CutFlow(2_000_000, 979_520, 743_660)
    assert outcome.report.total.ranges == 32
    assert contents(outcome.spectrum) == contents(local_spectrum(two_million))


def test_missing_columns_are_named(events_file):
    """A file without muons is not this analysis's, and the error says what is missing."""
    with pytest.raises(InputError, match=r"has no nMuon, Muon_pt, .*Muon_charge"):
        analysis.run(Analysis((events_file,), execution="local"))


# The picture


@given(
    edges=st.lists(st.floats(0.1, 1000), min_size=2, max_size=200, unique=True).map(sorted),
    ratio=st.floats(1.0001, 3),
)
def test_logarithmic_edges_are_a_choice_of_the_given_ones(edges, ratio):
    """First and last stay; each other step grows by the ratio, and no more than one edge further."""
    chosen = list(plot.log_edges(edges, ratio))
    assert chosen[0] == edges[0]
    assert chosen[-1] == edges[-1]
    assert set(chosen) <= set(edges)
    for low, high in itertools.pairwise(chosen[:-1]):
        assert high >= low * ratio
        assert not any(low * ratio <= edge < high for edge in edges if edge > low)


def test_rebinning_loses_no_pair(spectrum):
    """The density times the width of its bins adds up to the spectrum's integral."""
    histogram = plot.density(spectrum)
    assert histogram.Integral("width") == pytest.approx(spectrum.Integral(), rel=1e-9)
    assert 400 < histogram.GetNbinsX() < 800


def test_every_generated_resonance_is_found(spectrum):
    """All of them stand out, in the order of their masses."""
    names = ["#eta", "#rho/#omega", "#phi", "J/#psi", "#psi'", "#Upsilon(1,2,3S)", "Z"]
    assert [name for name, _, _ in plot.peaks(spectrum)] == names


def test_what_is_not_there_is_not_labelled():
    """A smooth falling spectrum has no resonances, nor has an empty one."""
    smooth = ROOT.TH1D("smooth", "", analysis.BINS, analysis.LOW_GEV, analysis.HIGH_GEV)
    assert list(plot.peaks(smooth)) == []
    for index in range(1, analysis.BINS + 1):
        smooth.SetBinContent(index, 1000 / smooth.GetBinCenter(index))
    assert list(plot.peaks(smooth)) == []


def test_real_data_shows_its_resonances(dimuon_file):
    """In 100,000 CMS events J/psi, psi', the Upsilons and the Z can be seen."""
    found = [name for name, _, _ in plot.peaks(local_spectrum(dimuon_file))]
    assert found[-4:] == ["J/#psi", "#psi'", "#Upsilon(1,2,3S)", "Z"]


def test_pictures_are_written_and_root_is_left_as_it_was(spectrum, tmp_path):
    """A PDF and a PNG of reasonable size; batch mode and verbosity do not change for the user."""
    before = ROOT.gROOT.IsBatch(), ROOT.gErrorIgnoreLevel
    paths = [tmp_path / "plot.pdf", tmp_path / "plot.png"]
    plot.save(spectrum, paths, title="Generated events", note="200,000 events")
    assert paths[0].read_bytes().startswith(b"%PDF")
    assert paths[1].read_bytes().startswith(b"\x89PNG")
    assert all(5_000 < path.stat().st_size < 150_000 for path in paths)
    assert (ROOT.gROOT.IsBatch(), ROOT.gErrorIgnoreLevel) == before


# All of it


def test_the_demo_tells_and_writes_the_same_figures(generated, tmp_path):
    """Cut flow, mean and report are in the text and in the JSON file; the plots are where they should be."""
    said = []
    request = Request(
        [str(generated)],
        execution="local",
        npartitions=4,
        output=tmp_path / "new" / "place",
        json=tmp_path / "f.json",
    )
    outcome = run.run(request, said.append)
    text, figures = "\n".join(said), json.loads((tmp_path / "f.json").read_text())
    assert figures["cut_flow"] == {"all_events": 200_000, "two_muons": 110_153, "opposite_charge": 82_699}
    assert figures["mean_mass_gev"] == outcome.mean_mass_gev
    assert figures["report"] == json.loads(json.dumps(outcome.report.to_dict()))
    for piece in ("200,000", "110,153", "82,699", f"{outcome.mean_mass_gev:.10g} GeV", str(outcome.report)):
        assert piece in text
    assert {path.name for path in request.output.iterdir()} == set(run.PLOTS)


def test_no_events_are_a_result_too(cms_data, tmp_path):
    """An empty tree gives zeros, no mean, strict JSON, and an empty plot."""
    said = []
    request = Request(
        [str(cms_data / "nanoaod_empty.root")],
        execution="local", output=tmp_path, json=tmp_path / "figures.json",
    )  # fmt: skip
    outcome = run.run(request, said.append)
    assert outcome.cut_flow == CutFlow(0, 0, 0)
    assert "no pairs" in "\n".join(said)
    assert json.loads((tmp_path / "figures.json").read_text())["mean_mass_gev"] is None
    assert (tmp_path / "dimuon_spectrum.png").stat().st_size > 0


@pytest.mark.parametrize(("act", "field"), [(run.run, "output"), (run.run, "json"), (run.estimate, "json")])
def test_a_place_that_cannot_be_written_to_is_an_error_before_anything_runs(act, field, tmp_path):
    """Nothing is read, or paid, for a result that could not be kept."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="file"):
        act(Request(["/no/such.root"], **{field: tmp_path / "file" / "below"}), lambda _: None)


def test_the_demo_reads_from_an_emulated_s3(tmp_path, monkeypatch):
    """``--via s3`` gives the figures of the file on the disk; environments read as the user."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    told = []
    requests = [
        Request(events=10_000, execution="local", npartitions=2, output=tmp_path),
        Request(events=10_000, execution="emulated", npartitions=2, output=tmp_path, via="s3"),
    ]
    near, far = (run.run(request, told.append) for request in requests)
    assert far.cut_flow == near.cut_flow
    assert far.mean_mass_gev == pytest.approx(near.mean_mass_gev, rel=1e-12)
    assert any("s3://demo/" in text for text in told)


@pytest.mark.parametrize(
    "request_", [Request(via="s3", execution="lambda"), Request(via="s3", files=["a.root"])]
)
def test_an_emulated_s3_is_for_generated_events(request_):
    with pytest.raises(ConfigurationError, match="--via s3 is for generated events"):
        run.run(request_, lambda text: None)
