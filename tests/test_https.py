"""Data over https://, from a server with a certificate of an authority that only its user knows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import scripts, web
from tests.certificates import certify

_VARIABLES = ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
"""Those that name certificates, the one that counts first."""


@pytest.fixture(scope="module")
def server(events_file, tmp_path_factory):
    """Such a server with a file on it: its URL, and the certificate of its authority."""
    directory = tmp_path_factory.mktemp("https")
    certify(directory)
    with web.serving(directory / "host.pem") as serving:
        serving.files["/events.root"] = Path(events_file).read_bytes()
        yield f"{serving.url}/events.root", directory / "authority.pem"


def read(execution, url, **variables):
    others = {name: value for name, value in os.environ.items() if name not in _VARIABLES}
    command = [sys.executable, "-W", "ignore", "-c", scripts.SUM, execution, url]
    done = subprocess.run(
        command, env={**others, **variables}, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("variable", _VARIABLES)
def test_environments_know_the_users_authority(server, variable):
    """However the user names it: what the client can read, environments of this machine can."""
    url, authority = server
    assert read("emulated", url, **{variable: str(authority)}) == "499500.0"


def test_an_authority_that_nobody_knows(server):
    """The file is not read, and the error says how it is named."""
    said = read("local", server[0])
    assert said.startswith("InputError cannot read https://localhost:")
    assert "AWS_CA_BUNDLE" in said
