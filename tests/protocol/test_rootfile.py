"""Files are told apart by their content, and bad ones are recognised."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from dask_root_lambda.protocol import rootfile
from dask_root_lambda.protocol.errors import InputError
from tests.conftest import ROOT, write_events


def test_a_copy_is_the_same_file_and_a_new_file_is_not(tmp_path, events_file):
    """Size and header are of the content: a copy has them, a file made again with its entries has not."""
    copy = tmp_path / "copy.root"
    copy.write_bytes(Path(events_file).read_bytes())
    again = write_events(tmp_path / "again.root")
    original = rootfile.identify_local(Path(events_file))
    copied = rootfile.identify_local(copy)
    assert replace(copied, mtime_ns=original.mtime_ns) == original
    assert replace(rootfile.identify_local(Path(again)), mtime_ns=original.mtime_ns) != original


def test_when_a_file_was_changed_belongs_to_its_identity(tmp_path):
    """ROOT can be asked for files of one UUID: of equal size, nothing else tells them apart."""
    path = Path(write_events(tmp_path / "events.root"))
    before = rootfile.identify_local(path)
    later_ns = before.mtime_ns + 1_000_000
    os.utime(path, ns=(later_ns, later_ns))
    assert rootfile.identify_local(path) == replace(before, mtime_ns=later_ns)


def test_an_update_in_place_changes_the_identity(tmp_path):
    """A file that something was added to is another one, though ROOT keeps its UUID."""
    path = Path(write_events(tmp_path / "file.root"))
    before = rootfile.identify_local(path)
    file = ROOT.TFile(str(path), "UPDATE")
    ROOT.TNamed("note", "more").Write()
    file.Close()
    assert rootfile.identify_local(path) != before


def test_the_large_form_of_the_header_is_read():
    """Files over 2 GB have 64-bit positions in their header."""
    header = (
        b"root"
        + (1_064_000).to_bytes(4, "big")
        + (100).to_bytes(4, "big")
        + (3_000_000_000).to_bytes(8, "big")
    )
    header = header.ljust(rootfile.HEADER_BYTES, b"\1")
    assert rootfile.identify("big.root", header, 3_000_000_000).size == 3_000_000_000
    with pytest.raises(InputError, match="truncated: 5 bytes of 3,000,000,000"):
        rootfile.identify("big.root", header, 5)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", r"is not a ROOT file \(0 bytes\)"),
        (b"<html>404</html>" * 10, "is not a ROOT file"),
        (None, "No such file"),
    ],
)
def test_bad_files_are_named(tmp_path, content, complaint):
    """What is no ROOT file, or not there, is an error that names the file and the reason."""
    path = tmp_path / "bad.root"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=complaint) as caught:
        rootfile.identify_local(path)
    assert "bad.root" in str(caught.value)


def test_a_truncated_file_says_how_much_is_missing(tmp_path, events_file):
    """A copy that ended early names both lengths."""
    content = Path(events_file).read_bytes()
    path = tmp_path / "short.root"
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=f"truncated: {len(content) // 2:,} bytes of {len(content):,}"):
        rootfile.identify_local(path)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("/data/a.root", Path("/data/a.root")),
        ("file:///data/a.root", Path("/data/a.root")),
        ("a.root", Path("a.root")),
        ("root://host//a.root", None),
        ("https://host/a.root", None),
    ],
)
def test_what_is_local_is_known(url, path):
    """Paths and file URLs are of this machine, other URLs are not."""
    assert rootfile.local_path(url) == path
