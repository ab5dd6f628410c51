"""Data over roots://, from a real XRootD server with a certificate of its own authority, by a token.

What the XRootD client knows of certificates it learns once in a process: each test reads in one of its own.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import ROOT

from dask_root_lambda.protocol.errors import UserCodeError
from lambda_runtime import certificates, diagnostics, storage_token
from tests import xrootd_tls
from tests.conftest import write_events

_READ = """
import sys
from dask_root_lambda import LambdaCluster, RDataFrame
from dask_root_lambda.protocol.errors import DaskRootLambdaError
with LambdaCluster(execution=sys.argv[1], concurrency=1, dashboard_address=None) as cluster:
    with cluster.get_client():
        try:
            print(RDataFrame("Events", sys.argv[2], npartitions=2).Sum("x").GetValue())
        except DaskRootLambdaError as error:
            print(type(error).__name__, error)
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


def _read(server, execution="local", script=_READ, **variables):
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


def _fail_at(place):
    with diagnostics.user_code("the graph"):
        ROOT.Error(place, "no")
        raise RuntimeError("the loop ended")


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
