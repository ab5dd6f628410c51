"""What was learned of files, on disk."""

from __future__ import annotations

import json
import stat

import pytest

from dask_root_lambda import state_home
from dask_root_lambda.protocol.rootfile import FileIdentity
from dask_root_lambda.rdf import known
from dask_root_lambda.rdf.known import Known

URL = "root://host.cern.ch//store/run1/events.root?authz=Bearer%20secret"
IDENTITY = FileIdentity(1000, "0123", 1_000_000_000_000_000_000, '"tag"')


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


def _files():
    return sorted((state_home.home() / "files").iterdir())


def test_what_was_learned_is_remembered():
    """Identity and entries come back as they were, and what is learned later of the same content is added."""
    known.remember({URL: Known(IDENTITY, {"Events": 5})})
    known.remember({URL: Known(IDENTITY, {"Runs": 1}), "root://host//other/a.root": Known(IDENTITY)})
    assert known.recall([URL, "root://host//else.root"]) == {URL: Known(IDENTITY, {"Events": 5, "Runs": 1})}


def test_another_token_is_no_other_file():
    """What is asked for beside a file's name, such as a token, does not name it."""
    known.remember({URL: Known(IDENTITY)})
    renewed = URL.replace("secret", "renewed")
    assert known.recall([renewed]) == {renewed: Known(IDENTITY)}


def test_another_content_takes_the_place():
    """What was learned of a file's former content is forgotten with it."""
    known.remember({URL: Known(IDENTITY, {"Events": 5})})
    other = FileIdentity(1001, "4567")
    known.remember({URL: Known(other)})
    assert known.recall([URL]) == {URL: Known(other)}


def test_files_are_the_users_alone_and_name_nothing():
    """Directory 0700, files 0600, no temporary ones; no URL, which may hold a token, is in them."""
    known.remember({URL: Known(IDENTITY)})
    (path,) = _files()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert "host" not in path.read_text()
    assert "secret" not in path.read_text()


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[]",
        lambda text: text.replace('"format":1', '"format":2'),
        lambda text: text.replace("1000,", '"1000",'),
        lambda text: text.replace("1000,", "-1,"),
        lambda text: text.replace('"entries":{"Events":5}', '"entries":[5]'),
        lambda text: text.replace('"header"', '"head"'),
        lambda text: json.dumps({"format": 1, "files": [1]}),
    ],
)
def test_what_is_damaged_is_as_if_absent(damage):
    """Nothing of a damaged file is used, and it is replaced when something is learned."""
    known.remember({URL: Known(IDENTITY, {"Events": 5})})
    (path,) = _files()
    path.write_text(damage(path.read_text()))
    assert known.recall([URL]) == {}
    known.remember({URL: Known(IDENTITY, {"Events": 6})})
    assert known.recall([URL]) == {URL: Known(IDENTITY, {"Events": 6})}


def test_what_others_could_have_written_is_as_if_absent():
    """Entries decide about numbers: a file that others may write to tells none."""
    known.remember({URL: Known(IDENTITY, {"Events": 5})})
    (path,) = _files()
    path.chmod(0o660)
    assert known.recall([URL]) == {}


def test_the_store_is_bounded(monkeypatch):
    """Of however many directories, the store has few files, and of many data files it knows the last."""
    urls = [f"root://host//run{index}/events.root" for index in range(500)]
    known.remember({url: Known(IDENTITY) for url in urls})
    assert len(_files()) <= known._PARTS
    assert set(known.recall(urls)) == set(urls)
    monkeypatch.setattr(known, "_MOST_FILES", 2)
    many = [f"root://host//run/events{index}.root" for index in range(5)]
    known.remember({url: Known(IDENTITY) for url in many})
    assert list(known.recall(many)) == many[-2:]


def test_nothing_can_be_written(tmp_path, monkeypatch):
    """Where there is no place, nothing is kept, and nothing fails."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    known.remember({URL: Known(IDENTITY)})
    assert known.recall([URL]) == {}
