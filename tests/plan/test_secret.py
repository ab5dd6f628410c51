"""The user's secret: made once, read by nobody else, and done without where it cannot be kept."""

from __future__ import annotations

import subprocess
import sys

import pytest

from dask_root_lambda.plan import secret


@pytest.fixture
def state(tmp_path, monkeypatch):
    """A state directory of this test's own, and the path of the secret in it."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    secret._read_or_make.cache_clear()
    yield tmp_path / "dask-root-lambda" / secret.FILE
    secret._read_or_make.cache_clear()


def in_a_process():
    """Return the secret that another process of this user has."""
    code = "from dask_root_lambda.plan import secret; print(secret.of_user().value.hex())"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    )
    return bytes.fromhex(done.stdout)


def test_it_is_kept(state):
    """Every process of a user has the same one, in a file that is the user's alone."""
    first = secret.of_user()
    assert (first.not_kept, first.value) == ("", in_a_process())
    assert state.stat().st_mode & 0o777 == 0o600
    assert len(state.read_bytes()) == len(first.value) == 32


def test_names_and_keys_are_reproducible_and_apart():
    """Of one secret they are the same each time; of two users, or two runs, they have nothing in common."""
    mine, others = secret.Secret(b"m" * 32), secret.Secret(b"o" * 32)
    assert mine.run("graph") == secret.Secret(b"m" * 32).run("graph")
    assert len({mine.run("graph"), mine.run("other"), others.run("graph")}) == 3
    run = mine.run("graph")
    assert len({mine.key(run), mine.key("other"), others.key(run)}) == 3


def test_it_is_not_shown():
    """A secret in a log or a traceback is none."""
    assert "mmmm" not in repr(secret.Secret(b"m" * 32))


@pytest.mark.parametrize(
    ("content", "mode", "message"),
    [(b"x" * 32, 0o644, "is not this user's alone"), (b"short", 0o600, "holds no secret")],
)
def test_a_file_that_cannot_be_one(state, content, mode, message):
    """It is not taken, and not replaced: this process has a secret of its own, and says why."""
    state.parent.mkdir(parents=True)
    state.write_bytes(content)
    state.chmod(mode)
    found = secret.of_user()
    assert message in found.not_kept
    assert found.value != content
    assert len(found.value) == 32
    assert state.read_bytes() == content


def test_a_directory_that_cannot_be_written(state):
    """A read-only home is no reason to fail."""
    state.parent.parent.joinpath("dask-root-lambda").write_text("a file")
    found = secret.of_user()
    assert "dask-root-lambda" in found.not_kept
    assert found.value == secret.of_user().value
