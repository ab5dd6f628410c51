"""Objects over HTTP: what is fetched, what is tried again, and what is said of the rest."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import ROOT

from dask_root_lambda.protocol.errors import InputError, UnavailableInputError
from lambda_runtime import declaring, diagnostics
from lambda_runtime.remote import access, names, objects
from lambda_runtime.remote.names import Place, S3Name
from tests import web


@pytest.fixture(scope="module")
def library():
    """The C++ code, whose waits are short."""
    library = objects._library()
    library.gFirstDelayMs = 10
    library.gStallS = 1
    library.gDeadlineMs = 20_000
    return library


@pytest.fixture
def server(library):
    with web.serving() as served:
        yield served


@pytest.fixture
def keys(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


@pytest.fixture
def url(server, keys, events_file):
    """An object of an S3 that is the server, as ROOT is told."""
    server.files["/physics/events.root"] = Path(events_file).read_bytes()
    return S3Name("physics", "events.root", Place(server.url)).internal()


def test_objects_are_told_apart_side_by_side(server):
    """Many looks at once: each is at the object that it names."""
    sizes = {f"/side{index}": 100 * (index + 1) for index in range(16)}
    server.files.update({path: bytes(size) for path, size in sizes.items()})
    with ThreadPoolExecutor(16) as pool:
        for _ in range(10):
            seen = pool.map(lambda path: objects.look(f"{server.url}{path}").size, sizes)
            assert list(seen) == list(sizes.values())


READER = r"""
#include <ROOT/RDataFrame.hxx>
#include <TFile.h>
namespace test_remote {
double Sum(const std::string &url, const std::string &column)
{
   return *ROOT::RDataFrame("Events", url).Sum(column);
}
Long64_t Opened(const std::string &url, const std::string &option)
{
   std::unique_ptr<TFile> file{TFile::Open(url.c_str(), option.c_str())};
   return file ? file->GetSize() : -1;
}
}
"""


def plain(name):
    """A function of plain ROOT, without Python's lock: the server needs that."""
    function = getattr(declaring.declared(READER) and ROOT.test_remote, name)
    function.__release_gil__ = True
    return function


def total(url, column="x"):
    """Sum a column by plain ROOT, as the range of a run would."""
    return reading(url, objects.identify(url), column)


def reading(url, identity, column="x"):
    with objects.reading([(url, identity)]), diagnostics.user_code("the graph"):
        return plain("Sum")(url, column)


def test_plain_root_reads_an_object(url, server):
    """Numbers are those of the file, and each request behind the first names the content that it wants."""
    assert total(url) == 499500
    tag = server.tag("/physics/events.root")
    assert {headers.get("if-match") for _, _, headers in server.requests[1:]} == {tag}
    assert len(server.requests) <= 4


def test_nothing_secret_goes_over_the_wire(url, server):
    """Requests carry a signature, and not the key that made it."""
    total(url)
    assert all("X-Amz-Signature" in line for _, line, _ in server.requests)
    assert "secret" not in str(server.requests)


@pytest.mark.parametrize(
    "failures",
    [
        ["503 SlowDown"] * 3,
        ["500 InternalError"],
        ["truncate", "truncate"],
        ["close"],
        ["stall"],
        ["429 TooManyRequests"],
    ],
    ids=lambda failures: failures[0],
)
def test_what_passes_is_tried_again(url, server, failures):
    """Numbers are those of the file, also where a look, or a reading, fails at first."""
    server.script = ["ok", *failures]
    assert total(url) == 499500
    server.script = list(failures)
    assert total(url) == 499500


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("404 NoSuchKey", "there is no such object"),
        ("404 NoSuchBucket", "there is no such bucket"),
        ("403 AccessDenied", "access is denied: the credentials need s3:GetObject"),
        ("403 ExpiredToken", "the credentials have expired: renew them"),
        ("403 SignatureDoesNotMatch", "the secret key is wrong"),
        ("403 InvalidObjectState", "archive"),
        ("whole", "it does not answer ranges"),
    ],
)
def test_what_does_not_pass_is_told(url, server, answer, said):
    """An error names the object as users know it, and says what to do; nothing is tried for long."""
    server.after = answer
    with pytest.raises(InputError, match=f"cannot read s3://physics/events.root: .*{said}") as raised:
        objects.identify(url)
    assert not raised.value.retryable
    assert len(server.requests) <= 3


@pytest.mark.parametrize("answer", ["403 AccessDenied", "404 NoSuchKey", "403 ExpiredToken"])
def test_what_happens_in_mid_run_is_told(url, server, answer):
    """A reading that fails is an error of the data, and no fault of the user's code."""
    server.script, server.after = ["ok"], answer
    with pytest.raises(InputError, match=r"cannot read s3://physics/events\.root"):
        total(url)


def test_an_object_replaced_in_mid_run_is_told(url, server, events_file):
    """No range mixes two contents of a name."""
    identity = objects.identify(url)
    server.files["/physics/events.root"] += b"more"
    with pytest.raises(InputError, match=r"s3://physics/events\.root was replaced"):
        reading(url, identity)
    with pytest.raises(InputError, match="was replaced"):
        objects.compare(url, identity)


@pytest.mark.parametrize("path", ["/physics/events.root", "/web/events.root"], ids=["s3", "web"])
def test_an_object_that_went_is_told(url, server, path):
    """Its name was right: in the middle of a range, and before one."""
    if path.startswith("/web"):
        server.files[path] = server.files["/physics/events.root"]
        url = f"{server.url}{path}"
    identity = objects.identify(url)
    said = f"cannot read .*{path[1:]}: HTTP 404.*is gone: put it back, or make the RDataFrame again"
    server.after = "404 NoSuchKey"
    with pytest.raises(InputError, match=said):
        reading(url, identity)
    server.after = "ok"
    del server.files[path]
    with pytest.raises(InputError, match=said):
        objects.compare(url, identity)
    with pytest.raises(InputError, match="there is no such object: check the name"):
        objects.identify(url)


@pytest.mark.parametrize("answer", ["503 SlowDown", "stall"])
def test_a_server_that_stays_down_is_told_in_time(url, server, library, answer, monkeypatch):
    """The error may pass, says so, and comes within the deadline."""
    library.gDeadlineMs = 3_000
    try:
        server.after, began_s = answer, time.monotonic()
        with pytest.raises(UnavailableInputError, match="several times; try again later"):
            objects.identify(url)
        assert time.monotonic() - began_s < 10
    finally:
        library.gDeadlineMs = 20_000


def test_a_slow_answer_is_no_missing_one(url, server, library):
    """The deadline is one of silence: a reading that goes on may take longer."""
    objects.identify(url)
    library.gDeadlineMs = 700
    try:
        server.after, began_s = "drip", time.monotonic()
        assert total(url) == 499500
        assert time.monotonic() - began_s > 0.7
    finally:
        library.gDeadlineMs = 20_000


def test_a_bucket_elsewhere_is_followed(url, server):
    """S3 names the region of a bucket where it refuses: what follows is signed for that."""
    server.headers["x-amz-bucket-region"] = "eu-central-1"
    server.script = ["301 PermanentRedirect"]
    assert total(url) == 499500
    assert all("%2Feu-central-1%2F" in line for _, line, _ in server.requests[1:])


def test_a_public_bucket_is_read_without_a_signature(url, server, monkeypatch):
    """Where the credentials may read nothing, the object may be everybody's."""
    server.script = ["403 AccessDenied"]
    assert total(url) == 499500
    assert not any("X-Amz-Signature" in line for _, line, _ in server.requests[1:])


def test_without_credentials_nothing_is_signed(url, server, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    assert total(url) == 499500
    assert not any("X-Amz-Signature" in line for _, line, _ in server.requests)


def test_who_agreed_pays(server, keys, events_file):
    """Requests say that the reader pays, signed."""
    server.files["/physics/events.root"] = Path(events_file).read_bytes()
    url = S3Name("physics", "events.root", Place(server.url, requester_pays=True)).internal()
    assert total(url) == 499500
    assert {headers.get("x-amz-request-payer") for _, _, headers in server.requests} == {"requester"}


@pytest.mark.parametrize("weak", [False, True])
def test_web_servers_are_read(server, events_file, weak):
    """A URL of a web server works as it is; what is no strong name of the content is not asked for."""
    server.weak = weak
    server.files["/data/events.root"] = Path(events_file).read_bytes()
    assert total(f"{server.url}/data/events.root") == 499500
    assert any("if-match" in headers for _, _, headers in server.requests) is not weak


def test_plain_open(url, server, monkeypatch):
    """ROOT opens what a user names, in the S3 that is configured; nothing can be written."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.url)
    objects.prepare()
    assert plain("Sum")("s3://physics/events.root", "x") == 499500
    with diagnostics.record() as reported:
        assert plain("Opened")("s3://physics/nowhere.root", "READ") == -1
        assert plain("Opened")("s3://physics/events.root", "RECREATE") == -1
    assert "cannot read s3://physics/nowhere.root: HTTP 404 NoSuchKey; there is no such" in reported.text
    assert "can be read, and not be written" in reported.text


@pytest.mark.parametrize(
    "key",
    ["a b+c.root", "dir.root/x.root", "100%.root", "a?b#c.root", "ü/[1].root", "a//b.root", "~x/$y.root"],
)
def test_names_come_back(key):
    """ROOT is given letters that mean nothing to it; users see theirs."""
    name = S3Name("bucket.with.dots", key, Place("http://localhost:9000", requester_pays=True))
    internal = name.internal()
    assert not set(internal.removeprefix("https://")) & set(" +?#[]*$")
    assert names.parse_s3(internal) == name
    assert names.shown(internal) == f"s3://bucket.with.dots/{key}"


def test_fewer_bytes_than_a_tenth_more(library, server, keys, tmp_path):
    """Of few columns of many, little is fetched beyond what ROOT asks for."""
    frame = ROOT.RDataFrame(200_000)
    for number in range(30):
        frame = frame.Define(f"c{number}", f"double(rdfentry_ * {number + 1} % 9973)")
    frame.Snapshot("Events", str(tmp_path / "wide.root"))
    server.files["/wide.root"] = (tmp_path / "wide.root").read_bytes()
    url = f"{server.url}/wide.root"
    objects.identify(url)
    read, before = ROOT.TFile.GetFileBytesRead(), server.bytes_asked
    assert plain("Sum")(url, "c3") > 0
    assert server.bytes_asked - before <= 1.1 * (ROOT.TFile.GetFileBytesRead() - read)


def test_small_clusters_are_fetched_together(library, server, keys, tmp_path):
    """Round trips are few where clusters are small; numbers are local ROOT's."""
    path = str(tmp_path / "small.root")
    options = ROOT.RDF.RSnapshotOptions()
    options.fAutoFlush = 5_000
    frame = ROOT.RDataFrame(400_000).Define("x", "double(rdfentry_ * 7919 % 99991)")
    frame.Snapshot("Events", path, ["x"], options)
    server.files["/small.root"] = Path(path).read_bytes()
    url = f"{server.url}/small.root"
    objects.identify(url)
    before = len(server.requests)
    assert plain("Sum")(url, "x") == plain("Sum")(path, "x")
    assert len(server.requests) - before < 80 / 4


SCRIPT = """
import sys
import ROOT
from dask_root_lambda.rdf import door

door.install()
chain = ROOT.TChain("Events")
chain.Add(sys.argv[1])
file = ROOT.TFile.Open(sys.argv[1])
print(chain.GetEntries(), file.Get("Events").GetEntries())
"""


def test_a_process_ends_with_an_object_open(server, events_file):
    """ROOT opens names of objects once the package is imported, and the process ends in order."""
    server.files["/events.root"] = Path(events_file).read_bytes()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, f"{server.url}/events.root"],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("1000 1000\n", 0), done.stderr


@pytest.mark.parametrize(("own", "signs"), [("", False), ("the server", True)])
def test_a_role_signs_for_its_own_s3_only(url, server, monkeypatch, own, signs):
    """A function in AWS asks another S3 without its role: that knows nothing of it, and need not."""
    monkeypatch.setattr(access, "IN_FUNCTION", True)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.url if own else "")
    assert total(url) == 499500
    assert all(("X-Amz-Signature" in line) is signs for _, line, _ in server.requests)
