"""Data over roots://, from a real XRootD server with a certificate of its own authority, by a token.

What the XRootD client knows of certificates it learns once in a process: each test reads in one of its own.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import ROOT

from dask_root_lambda.protocol.errors import UnavailableInputError, UserCodeError
from lambda_runtime import certificates, diagnostics, storage, storage_token
from tests import scripts, xrootd_tls
from tests.conftest import write_events

_KEPT = """
import sys
from dask_root_lambda import LambdaCluster, RDataFrame
with LambdaCluster(execution=sys.argv[1], concurrency=1, dashboard_address=None) as cluster:
    with cluster.get_client():
        for action in ("Sum", "Mean"):
            frame = RDataFrame("Events", sys.argv[2], npartitions=2, cache_days=1)
            value = getattr(frame, action)("x").GetValue()
            read = {each.source[:5]: each.bytes_read for each in cluster.report().runs[-1].traffic}
            print(action, value, read["roots"] < 1000, read.get("s3://", 0) > 1000)
"""


@contextlib.contextmanager
def _serving(*, asks):
    # Not below pytest's directory, which is closed to the server's user.
    with tempfile.TemporaryDirectory(prefix="tls-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        with xrootd_tls.serving(directory, asks=asks) as secure:
            Path(write_events(secure.data / "events.root")).chmod(0o644)
            yield secure


@pytest.fixture(scope="module")
def server():
    """A server that wants a token, with a file on it."""
    with _serving(asks=True) as secure:
        yield secure


_OPEN = """
import sys
import ROOT
import dask_root_lambda
dask_root_lambda.RDataFrame
file = ROOT.TFile.Open(sys.argv[2])
print(file.Get("Events").GetEntries())
"""


def _read(server, execution="local", script=scripts.SUM, **variables):
    named = {
        name: value for name, value in os.environ.items() if not name.startswith(("X509_", "SSL_", "BEARER"))
    }
    command = [sys.executable, "-W", "ignore", "-c", script, execution, f"{server.url}/events.root"]
    done = subprocess.run(
        command, env={**named, **variables}, capture_output=True, text=True, timeout=200, check=False
    )
    return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else done.stderr[-2000:]


def test_a_file_is_read_over_tls_by_a_token(server):
    """With the authority's certificate, and the token, roots:// reads."""
    variables = {"X509_CERT_FILE": str(server.authority), "BEARER_TOKEN_FILE": str(server.good)}
    assert _read(server, **variables) == "499500.0"


def test_plain_root_opens_it(server):
    """So does TFile.Open, once the package is imported: ROOT's own plugin for roots:// opens nothing."""
    variables = {"X509_CERT_FILE": str(server.authority), "BEARER_TOKEN_FILE": str(server.good)}
    assert _read(server, script=_OPEN, **variables) == "1000"


def test_environments_read_over_tls():
    """So do environments, which have the certificates of their image."""
    with _serving(asks=False) as server:
        assert _read(server, "emulated", X509_CERT_FILE=str(server.authority)) == "499500.0"


def test_what_came_over_tls_is_kept():
    """A second run reads it from the bucket, and of the server no more than which file that is."""
    with _serving(asks=False) as server:
        said = _read(server, "emulated", script=_KEPT, X509_CERT_FILE=str(server.authority))
    assert said == "Mean 499.5 True True"


def test_the_certificates_of_the_user_are_used(server):
    """Those that the user's other programs are told of are given to the XRootD client too."""
    variables = {"SSL_CERT_FILE": str(server.authority), "BEARER_TOKEN_FILE": str(server.good)}
    assert _read(server, **variables) == "499500.0"


def test_a_server_of_an_unknown_authority_is_refused(server):
    """By the system's certificates it is not recognised: it is not read, and gets no token."""
    said = _read(server, BEARER_TOKEN_FILE=str(server.good))
    assert said.startswith("InputError cannot open roots://")
    assert "TLS error" in said


def test_without_certificates_nothing_is_read(server):
    """The XRootD client would go on without TLS: roots:// is refused then, with what to do."""
    said = _read(server, X509_CERT_FILE="/nowhere.pem", BEARER_TOKEN_FILE=str(server.good))
    assert said.startswith("ConfigurationError")
    assert "X509_CERT_FILE" in said


def test_an_expired_token_is_named(server):
    """Where it fails with a token that has expired, the error says so, and when."""
    variables = {"X509_CERT_FILE": str(server.authority), "BEARER_TOKEN_FILE": str(server.expired)}
    said = _read(server, **variables)
    assert f"the token for storage in {server.expired} expired at 20" in said


_WAIT = """
import sys
import ROOT
from dask_root_lambda import LambdaCluster, RDataFrame
from dask_root_lambda.protocol.errors import DaskRootLambdaError
folder, files = sys.argv[1], sys.argv[2:]
wait = '''
if (gSystem->AccessPathName("FOLDER/begun"))
   fclose(fopen("FOLDER/begun", "w"));
while (gSystem->AccessPathName("FOLDER/go"))
   gSystem->Sleep(10);
return true;
'''.replace("FOLDER", folder)
with LambdaCluster(execution="local", concurrency=1, dashboard_address=None) as cluster:
    with cluster.get_client():
        frame = RDataFrame("Events", files, npartitions=len(files)).Filter(wait)
        try:
            print(frame.Sum("x").GetValue())
        except DaskRootLambdaError as error:
            print(" ".join(str(error).split()))
"""


@pytest.mark.parametrize("names", [("events.root", "other.root"), ("long.root",)])
def test_a_token_that_expires_in_the_middle_of_a_run_is_named(server, tmp_path, names):
    """The connection breaks, and is not made again: between two files, or within one."""
    shutil.copy(server.data / "events.root", server.data / "other.root")
    if not (server.data / "long.root").exists():
        # More than ROOT reads ahead.
        frame = ROOT.RDataFrame(8_000_000).Define("x", "gRandom->Rndm()")
        frame.Snapshot("Events", str(server.data / "long.root"), ["x"])
    for name in names:
        (server.data / name).chmod(0o644)
    token = tmp_path / "token"
    shutil.copy(server.good, token)
    relay = xrootd_tls.Relay(int(server.url.rstrip("/").rpartition(":")[2]))
    variables = {"X509_CERT_FILE": str(server.authority), "BEARER_TOKEN_FILE": str(token)}
    command = [sys.executable, "-W", "ignore", "-c", _WAIT, str(tmp_path)]
    with (
        contextlib.closing(relay),
        subprocess.Popen(
            [*command, *(f"{relay.url}/{name}" for name in names)],
            env={**os.environ, **variables}, stdout=subprocess.PIPE, text=True,
        ) as process,
    ):  # fmt: skip
        deadline = time.monotonic() + 120
        while not (tmp_path / "begun").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        shutil.copy(server.expired, token)
        relay.cut()
        (tmp_path / "go").touch()
        said = process.communicate(timeout=200)[0]
    assert f"the token for storage in {token} expired at 20" in said


def test_where_certificates_are_looked_for(tmp_path):
    """The user's variables come first, then the grid's directory, then a file of the system."""
    file = tmp_path / "bundle.crt"
    file.touch()
    for given in ({"X509_CERT_DIR": "/mine"}, {"X509_CERT_FILE": "/mine"}):
        environment = dict(given)
        certificates.name(environment, grid="/nowhere", files=[str(file)])
        assert environment == given
    environment = {}
    certificates.name(environment, grid=str(tmp_path), files=[str(file)])
    assert environment == {}
    certificates.name(environment, grid="/nowhere", files=["/nowhere", str(file)])
    assert environment == {"X509_CERT_FILE": str(file)}


def test_a_token_that_expires_while_a_range_runs_is_named(tmp_path, monkeypatch):
    """What XRootD could not read tells it; what was read wrong elsewhere has nothing to do with a token."""
    (tmp_path / "old").write_text(xrootd_tls.token(1_000_000_000))
    monkeypatch.setenv("BEARER_TOKEN_FILE", str(tmp_path / "old"))
    for place, told in (("TNetXNGFile::ReadBuffers", True), ("TBasket::ReadBasketBuffers", False)):
        with pytest.raises(UserCodeError) as raised:
            _fail_at(place)
        assert ("expired at 2001-09-09" in str(raised.value)) == told
    monkeypatch.setenv(storage_token.SECRET_VARIABLE, "arn:aws:secretsmanager:r:1:secret:n-aB3dE6")
    with pytest.raises(UnavailableInputError, match="in the secret n expired at 2001-09-09"):
        _fail_at("TNetXNGFile::ReadBuffers")


def _fail_at(place):
    with diagnostics.user_code("the graph"):
        ROOT.Error(place, "no")
        raise RuntimeError("the loop ended")


def test_a_token_of_a_secret_is_renewed_there(tmp_path):
    """Who gets the error of a function knows nothing of its files: the secret is named, and what to do."""
    old = tmp_path / "old"
    old.write_text(xrootd_tls.token(1_000_000_000))
    arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:muons/cern-token-aB3dE6"
    said = storage_token.expired({"BEARER_TOKEN_FILE": str(old), storage_token.SECRET_VARIABLE: arn})
    assert said.startswith("the token for storage in the secret muons/cern-token expired at 2001-09-09")
    assert "put-secret-value --secret-id muons/cern-token --secret-string" in said


def test_a_function_is_tried_again_for_a_new_token(tmp_path, monkeypatch):
    """The next try looks whether the secret was renewed; who has no secret is told at once."""
    (tmp_path / "old").write_text(xrootd_tls.token(1_000_000_000))
    monkeypatch.setenv("BEARER_TOKEN_FILE", str(tmp_path / "old"))
    assert not storage.unreadable("root://host//x", "").retryable
    monkeypatch.setenv(storage_token.SECRET_VARIABLE, "arn:aws:secretsmanager:r:1:secret:n-aB3dE6")
    assert storage.unreadable("root://host//x", "").retryable


def test_when_a_token_expires(tmp_path):
    """It is read from where XRootD looks first; one that is not a JSON Web Token says nothing."""
    old, opaque = tmp_path / "old", tmp_path / "opaque"
    old.write_text(f"{xrootd_tls.token(1_000_000_000)}\n")
    opaque.write_text("abc.%%%.def")
    said = storage_token.expired({"BEARER_TOKEN_FILE": str(old)}, 1_000_000_001.0)
    assert said == f"the token for storage in {old} expired at 2001-09-09 01:46:40 UTC: renew it"
    assert storage_token.expired({"BEARER_TOKEN_FILE": str(old)}, 999_999_999.0) == ""
    assert storage_token.expired({"BEARER_TOKEN_FILE": str(opaque)}) == ""
    assert storage_token.expired({"BEARER_TOKEN": "x", "BEARER_TOKEN_FILE": str(old)}) == ""
