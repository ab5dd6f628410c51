"""Secrets of the user's stay where they were: searched in everything that a run leaves or shows."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dask_root_lambda.protocol import wire

from .canaries import DRAWN, MARKER

pytestmark = pytest.mark.timeout(300)

_BLOB = wire._MAGIC
_NAMES = ("env", "key", "access", "session", "token", "bearer", "proxy", "kerberos", "profile", "config")
CANARIES = {name: f"canary-{name}-7f3a9c" for name in _NAMES}


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a client with secrets in its environment, its profile and its token files has been seen to say."""
    root = tmp_path_factory.mktemp("canaries")
    said, home = root / "output", root / "home"
    for directory in (said, home / ".aws", root / "tmp", root / "state"):
        directory.mkdir(parents=True)
    key = f"aws_access_key_id = {CANARIES['profile']}\naws_secret_access_key = {CANARIES['profile']}\n"
    (home / ".aws" / "credentials").write_text(f"[mine]\n{key}[default]\n{key}")
    (home / ".aws" / "config").write_text(f"[profile mine]\nregion = us-east-1\n# {CANARIES['config']}\n")
    files = {"BEARER_TOKEN_FILE": "token", "X509_USER_PROXY": "proxy", "KRB5CCNAME": "kerberos"}
    for kind in files.values():
        (home / kind).write_text(CANARIES[kind])
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "HOME": str(home),
        "TMPDIR": str(root / "tmp"),
        "XDG_STATE_HOME": str(root / "state"),
        "MY_SECRET": CANARIES["env"],
        "BEARER_TOKEN": CANARIES["bearer"],
        "AWS_PROFILE": "mine",
        "AWS_ACCESS_KEY_ID": CANARIES["access"],
        "AWS_SECRET_ACCESS_KEY": CANARIES["key"],
        "AWS_SESSION_TOKEN": CANARIES["session"],
        **{name: str(home / kind) for name, kind in files.items()},
    }
    ran = subprocess.run(
        [sys.executable, "-m", "tests.canaries", str(said)], env=environment, capture_output=True, timeout=240
    )
    assert ran.returncode == 0, ran.stderr.decode()[-3000:]
    (said / "printed").write_bytes(ran.stdout + ran.stderr)
    return said


def unpacked(data: bytes) -> Iterator[bytes]:
    """Data, and what is in the blobs inside it, in theirs, and in base64."""
    yield data
    place = data.find(_BLOB)
    while place >= 0:
        # Short ones are not compressed.
        with contextlib.suppress(zlib.error):
            yield from unpacked(
                zlib.decompressobj(-zlib.MAX_WBITS).decompress(data[place + wire.HEADER_BYTES :])
            )
        place = data.find(_BLOB, place + 1)


def payload_parts(data: bytes) -> Iterator[bytes]:
    yield data
    for body in json.loads(data)["bodies"]:
        yield from unpacked(wire.decode(body.get("inline", "")))


def everything(output: Path, *, payloads: bool = True) -> Iterator[tuple[str, bytes]]:
    """Everything that was said, by file."""
    for path in output.rglob("*"):
        name = str(path.relative_to(output))
        if not path.is_file() or path.is_symlink() or path.name == "secret":
            continue
        is_payload = name.startswith("payloads/")
        if payloads or not is_payload:
            parts = payload_parts(path.read_bytes()) if is_payload else unpacked(path.read_bytes())
            yield from ((name, part) for part in parts)


def spellings(secret: bytes) -> Iterator[bytes]:
    """How bytes may have been written."""
    yield secret
    yield secret.hex().encode()
    yield repr(secret)[2:-1].encode()
    # In the middle of base64 they begin in one of three places.
    for before in range(3):
        whole = base64.b64encode(b"\0" * before + secret)
        yield whole[4 * (before > 0) : -4]


def hits(output: Path, secret: bytes, **where: Any) -> list[str]:
    wanted = [each for each in spellings(secret) if len(each) > 8]
    return [name for name, data in everything(output, **where) if any(each in data for each in wanted)]


def test_the_search_finds_what_is_there(output: Path) -> None:
    """What the analysis says is found in payloads, store and log: the search sees through blobs."""
    found = {name.split("/")[0] for name in hits(output, MARKER.encode())}
    assert {"store", "log.json"} <= found
    assert "payloads" in {name.split("/")[0] for name in hits(output, b"no number")}
    assert "pages" in {name.split("/")[0] for name in hits(output, b"/info/main/workers.html")}
    assert "pages" in {name.split("/")[0] for name in hits(output, DRAWN.encode())}
    assert "texts.json" in hits(output, b"on purpose")
    for name in ("payloads", "store", "pages", "tmp", "state"):
        assert list((output / name).iterdir()), name


@pytest.mark.parametrize("name", CANARIES)
def test_no_secret_of_the_user_is_anywhere(output: Path, name: str) -> None:
    """Environment, AWS profile, token files: in no payload, log, store, file, report, error, text or page."""
    assert hits(output, CANARIES[name].encode()) == []


def test_the_secret_that_names_runs_is_in_its_file_only(output: Path) -> None:
    """The user's secret is in the state directory, for the user alone, and nowhere else."""
    (file,) = output.rglob("secret")
    assert file.stat().st_mode & 0o077 == 0
    assert hits(output, file.read_bytes()) == []


def test_keys_that_seal_are_in_requests_only(output: Path) -> None:
    """The keys of runs travel to functions, and are in no log, store, file, report, error, text or page."""
    sent = [json.loads(path.read_bytes()) for path in (output / "payloads").iterdir()]
    keys = {wire.decode(event["seal"]) for event in sent if event.get("seal")}
    assert keys
    for key in keys:
        assert hits(output, key, payloads=False) == []


def test_what_is_in_the_state_directory_is_the_users_alone(output: Path) -> None:
    """Others who can come to the files that are kept cannot read secret, divisions or parts."""
    files = [path for path in (output / "state").rglob("*") if path.is_file()]
    assert files
    for path in files:
        on_the_way = [path, *(each for each in path.parents if output / "state" in each.parents)]
        assert any(each.stat().st_mode & 0o077 == 0 for each in on_the_way), path
