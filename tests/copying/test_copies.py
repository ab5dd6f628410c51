"""Copies between this machine, S3, XRootD and web servers."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import boto3
import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from dask_root_lambda import cli
from dask_root_lambda.protocol.errors import InputError
from lambda_runtime.copying import buckets, sources, stream
from lambda_runtime.copying.content import Content
from tests import scripts, slow_link, web, xrootd

BUCKET = "copies"
PART = 8 << 20


@pytest.fixture
def s3(user):
    client = boto3.client("s3", endpoint_url=user)
    client.create_bucket(Bucket=BUCKET)
    yield client
    for item in client.list_objects_v2(Bucket=BUCKET).get("Contents", []):
        client.delete_object(Bucket=BUCKET, Key=item["Key"])


@pytest.fixture
def folder(tmp_path):
    """Two files, one of three parts, in a folder."""
    folder = tmp_path / "data"
    (folder / "run 1").mkdir(parents=True)
    (folder / "run 1" / "a+b.root").write_bytes(os.urandom(2 * PART + 12345))
    (folder / "small.txt").write_bytes(b"few")
    return folder


def content(s3, key):
    return s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()


def keys(s3):
    return [item["Key"] for item in s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])]


def copy(capsys, *arguments):
    """Run the command; return its status, its document, and what it said beside."""
    status = cli.main(["copy", "--json", *map(str, arguments)])
    said = capsys.readouterr()
    return status, json.loads(said.out) if said.out else None, said.err


def names(document, what):
    return sorted(each["target"] for each in document[what])


def test_a_folder_up_and_down(s3, folder, tmp_path, capsys):
    """Keys have spaces and signs; what came back is what went, and a second copy has nothing to do."""
    status, done, _ = copy(capsys, folder, f"s3://{BUCKET}/set/")
    assert status == 0
    assert names(done, "copied") == [f"s3://{BUCKET}/set/run 1/a+b.root", f"s3://{BUCKET}/set/small.txt"]
    assert content(s3, "set/run 1/a+b.root") == (folder / "run 1" / "a+b.root").read_bytes()
    status, done, _ = copy(capsys, folder, f"s3://{BUCKET}/set/")
    assert (status, done["copied"], len(done["skipped"])) == (0, [], 2)

    back = tmp_path / "back"
    for expected in (2, 0):
        status, done, _ = copy(capsys, f"s3://{BUCKET}/set/", back)
        assert (status, len(done["copied"])) == (0, expected)
    for name in ("run 1/a+b.root", "small.txt"):
        assert (back / name).read_bytes() == (folder / name).read_bytes()
    assert not list(back.rglob("*.part"))


def test_a_pattern_and_a_single_name(s3, folder, tmp_path, capsys):
    """A pattern goes into a folder; a single file takes the name that is given."""
    assert copy(capsys, folder / "small.txt", f"s3://{BUCKET}/other.txt")[0] == 0
    assert content(s3, "other.txt") == b"few"
    assert copy(capsys, f"s3://{BUCKET}/*.txt", tmp_path / "some")[0] == 0
    assert (tmp_path / "some" / "other.txt").read_bytes() == b"few"


def test_a_changed_source_is_copied_again(s3, folder, capsys):
    """Also if it has the same size."""
    small = folder / "small.txt"
    copy(capsys, small, f"s3://{BUCKET}/")
    small.write_bytes(b"new")
    os.utime(small, ns=(1, 1))
    assert len(copy(capsys, small, f"s3://{BUCKET}/")[1]["copied"]) == 1
    assert content(s3, "small.txt") == b"new"


def test_an_object_changed_by_another_is_copied_again(s3, folder, tmp_path, capsys):
    """In both directions: an object that is no copy of the source, and a file that was edited."""
    copy(capsys, folder / "small.txt", f"s3://{BUCKET}/")
    copy(capsys, f"s3://{BUCKET}/small.txt", tmp_path / "down.txt")
    s3.put_object(Bucket=BUCKET, Key="small.txt", Body=b"xxx")
    assert len(copy(capsys, folder / "small.txt", f"s3://{BUCKET}/")[1]["copied"]) == 1
    (tmp_path / "down.txt").write_bytes(b"yyy")
    assert len(copy(capsys, f"s3://{BUCKET}/small.txt", tmp_path / "down.txt")[1]["copied"]) == 1
    assert (tmp_path / "down.txt").read_bytes() == b"few"


def test_a_missing_source_stops_before_anything_is_copied(s3, folder, tmp_path, capsys):
    for missing in (tmp_path / "none.root", f"s3://{BUCKET}/none.root", f"s3://{BUCKET}/none*.root"):
        status, done, said = copy(capsys, folder / "small.txt", missing, f"s3://{BUCKET}/in/")
        assert (status, done) == (1, None)
        assert "none" in said
    assert keys(s3) == []


def test_targets_that_cannot_be_written(folder, capsys):
    """The error says what is possible."""
    status, _, said = copy(capsys, folder / "small.txt", "https://host/a.root")
    assert status == 1
    assert "copies go to a local path, to s3:// or to root://" in said


def test_two_files_of_one_name(folder, tmp_path, capsys):
    (tmp_path / "small.txt").write_bytes(b"1")
    status, _, said = copy(capsys, folder / "small.txt", tmp_path / "small.txt", f"s3://{BUCKET}/")
    assert status == 1
    assert "would both be" in said


def test_a_name_that_leads_out_of_the_folder(s3, tmp_path, capsys):
    """Who writes into a bucket does not write elsewhere on the disk of who copies from it."""
    s3.put_object(Bucket=BUCKET, Key="set/../../out.txt", Body=b"x")
    status, _, said = copy(capsys, f"s3://{BUCKET}/set/", tmp_path / "in" / "here")
    assert (status, list(tmp_path.rglob("out.txt"))) == (1, [])
    assert "would be outside of" in said


def test_a_source_that_goes_before_it_is_opened(tmp_path):
    """It is told as other sources that are not there."""
    with pytest.raises(InputError, match=r"cannot read .*none"), sources.opened(Content("/none", 1, "1")):
        pass


def test_a_dry_run_copies_nothing(s3, folder, capsys):
    status, done, _ = copy(capsys, "--dry-run", folder, f"s3://{BUCKET}/")
    assert (status, len(done["files"]), keys(s3)) == (0, 2, [])


def test_nothing_is_left_of_a_copy_that_failed(s3, folder, tmp_path, capsys, monkeypatch):
    """Neither object nor parts of one nor a file; the other file of the copy is there."""
    read = sources._pread
    monkeypatch.setattr(sources, "_pread", lambda n, size, offset: b"" if offset else read(n, size, offset))
    status, done, said = copy(capsys, folder, f"s3://{BUCKET}/")
    assert (status, len(done["failed"]), keys(s3)) == (1, 1, ["small.txt"])
    assert "became shorter while it was copied" in said
    assert not s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads")
    assert copy(capsys, folder, tmp_path / "near")[0] == 1
    assert [path.name for path in (tmp_path / "near").rglob("*") if path.is_file()] == ["small.txt"]


def test_a_source_that_changes_meanwhile(s3, folder, tmp_path, capsys, monkeypatch):
    """A mixture of two versions is never complete."""
    source = folder / "run 1" / "a+b.root"
    read = sources._pread

    def change(number, size, offset):
        if offset:
            os.utime(source, ns=(offset, offset))
        return read(number, size, offset)

    monkeypatch.setattr(sources, "_pread", change)
    status, _, said = copy(capsys, source, f"s3://{BUCKET}/")
    assert (status, keys(s3)) == (1, [])
    assert "was replaced while it was copied" in said


def test_a_block_that_does_not_come_is_read_again(s3, folder, tmp_path, capsys, monkeypatch):
    """What passes is tried again, from that block on."""
    copy(capsys, folder / "run 1" / "a+b.root", f"s3://{BUCKET}/a")
    read, failures = buckets.read, [1, 1]

    def fail(*arguments):
        if failures:
            failures.pop()
            raise buckets.UnavailableInputError("not now")
        return read(*arguments)

    monkeypatch.setattr(buckets, "read", fail)
    monkeypatch.setattr(stream, "_DELAYS_S", (0, 0, 0))
    assert copy(capsys, f"s3://{BUCKET}/a", tmp_path / "a")[0] == 0
    assert (tmp_path / "a").read_bytes() == (folder / "run 1" / "a+b.root").read_bytes()


def test_what_passes_of_s3s_refusals():
    """A server that is busy is asked again, one that denies is not."""
    for status, code, passes in (503, "SlowDown", True), (403, "AccessDenied", False), (400, "Odd", False):
        said = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
        failed = buckets.failed("read a", ClientError(said, "GetObject"))
        assert failed.retryable is passes
    assert buckets.failed("read a", ReadTimeoutError(endpoint_url="https://s3")).retryable


def test_a_terminal_shows_rate_and_time_left(s3, folder, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    status, _, said = copy(capsys, folder, f"s3://{BUCKET}/")
    assert status == 0
    assert re.search(r"100%\|.*16\.8M/16\.8M .*[0-9.]+[kMG]?B/s\]", said)


def test_a_wrong_checksum_is_found(s3, folder, tmp_path, capsys, monkeypatch):
    """S3's checksum of the object is compared with what came, before the file has its name."""
    copy(capsys, folder / "small.txt", f"s3://{BUCKET}/")
    monkeypatch.setattr(buckets, "read", lambda *_: b"fex")
    status, _, said = copy(capsys, f"s3://{BUCKET}/small.txt", tmp_path / "near.txt")
    assert (status, (tmp_path / "near.txt").exists()) == (1, False)
    assert "another checksum" in said


def test_from_a_web_server(s3, tmp_path, capsys):
    """To a bucket and to a disk."""
    with web.serving() as server:
        server.files["/a b.bin"] = os.urandom(PART + 17)
        url = f"{server.url}/a%20b.bin"
        assert copy(capsys, url, f"{tmp_path}/")[0] == 0
        assert (tmp_path / "a b.bin").read_bytes() == server.files["/a b.bin"]
        assert copy(capsys, url, f"s3://{BUCKET}/a.bin")[0] == 0
        assert copy(capsys, url, tmp_path / "a.bin")[0] == 0
        assert content(s3, "a.bin") == (tmp_path / "a.bin").read_bytes() == server.files["/a b.bin"]


def test_from_xrootd(s3, tmp_path, capsys):
    """By folder and pattern, to a bucket and to a disk; a second copy has nothing to do."""
    with xrootd.serving() as (data, url):
        (data / "in").mkdir(mode=0o755)
        for name, size in (("a 1.bin", PART + 17), ("in/b+2.bin", 100), ("in/c.txt", 0)):
            (data / name).write_bytes(os.urandom(size))
            (data / name).chmod(0o644)
        assert copy(capsys, f"{url}/", f"s3://{BUCKET}/x/")[0] == 0
        assert keys(s3) == ["x/a 1.bin", "x/in/b+2.bin", "x/in/c.txt"]
        assert content(s3, "x/a 1.bin") == (data / "a 1.bin").read_bytes()
        for expected in (1, 0):
            done = copy(capsys, f"{url}/in/*.bin", tmp_path / "near")[1]
            assert len(done["copied"]) == expected
        assert (tmp_path / "near" / "b+2.bin").read_bytes() == (data / "in" / "b+2.bin").read_bytes()
        for missing, said in ("none.bin", "cannot open"), ("none/", "cannot list"), ("in", "it is a folder"):
            status, _, told = copy(capsys, f"{url}/{missing}", tmp_path / "near")
            assert (status, said in told) == (1, True)


class TestToXrootd:
    """Copies to a real server."""

    @pytest.fixture
    def served(self):
        with xrootd.serving() as served:
            yield served

    def test_a_folder(self, served, folder, capsys):
        """With what is below it; a second copy has nothing to do; what has changed at an end is copied."""
        data, url = served
        for expected in (2, 0):
            status, done, _ = copy(capsys, f"{folder}/", f"{url}/in/here/")
            assert (status, len(done["copied"]), len(done["skipped"])) == (0, expected, 2 - expected)
        for path in (each for each in folder.rglob("*") if each.is_file()):
            assert (data / "in" / "here" / path.relative_to(folder)).read_bytes() == path.read_bytes()
        there = data / "in" / "here" / "small.txt"
        os.utime(there, (1_000_000_000, 1_000_000_000))
        assert len(copy(capsys, f"{folder}/", f"{url}/in/here/")[1]["copied"]) == 1
        (folder / "small.txt").write_bytes(b"new")
        assert len(copy(capsys, f"{folder}/", f"{url}/in/here/")[1]["copied"]) == 1
        assert there.read_bytes() == b"new"

    def test_from_afar(self, served, s3, folder, capsys):
        """From a bucket by functions, under another name, into a folder that is there, and empty."""
        data, url = served
        copy(capsys, folder, f"s3://{BUCKET}/in/")
        done = copy(capsys, "--execution", "emulated", f"s3://{BUCKET}/in/small.txt", f"{url}/other.txt")[1]
        assert (len(done["copied"]), done["report"]["total"]["invocations"]) == (1, 1)
        assert (data / "other.txt").read_bytes() == (folder / "small.txt").read_bytes()
        assert copy(capsys, f"s3://{BUCKET}/in/small.txt", f"{url}/other.txt")[1]["copied"] == []
        (folder / "empty").write_bytes(b"")
        copy(capsys, folder / "small.txt", f"{url}/kept/")
        copy(capsys, folder / "empty", f"{url}/kept")
        assert (data / "kept" / "empty").read_bytes() == b""

    def test_where_nothing_can_be_written(self, served, folder, capsys):
        """The error says what to look at, and nothing is left behind."""
        data, url = served
        (data / "a file").write_bytes(b"x")
        (data / "a file").chmod(0o444)
        status, done, said = copy(capsys, folder / "small.txt", f"{url}/a file/in/it.txt")
        assert (status, done["copied"]) == (1, [])
        assert "whether you may write there" in said + str(done["failed"])

    def test_a_source_that_changes_meanwhile(self, served, folder, monkeypatch, capsys):
        """What was written of it is removed."""
        data, url = served
        source, look = folder / "small.txt", sources.look
        seen = []

        def changing(name):
            if str(name).endswith("small.txt"):
                seen.append(name)
                if len(seen) > 1:
                    source.write_bytes(b"changed")
            return look(name)

        monkeypatch.setattr(sources, "look", changing)
        status, _, _ = copy(capsys, source, f"{url}/small.txt")
        assert status == 1
        assert not (data / "small.txt").exists()

    def test_a_name_with_a_sign_of_urls(self, served, s3, capsys):
        """What stands behind it would be taken for options."""
        s3.put_object(Bucket=BUCKET, Key="set/a?b.root", Body=b"x")
        status, _, said = copy(capsys, f"s3://{BUCKET}/set/", f"{served[1]}/")
        assert status == 1
        assert "give it another name" in said


@pytest.mark.parametrize("name", ["a.root", "folder/"])
def test_a_host_that_does_not_answer(name, tmp_path):
    """A closed port is told within a minute, of files and folders, by a process that has opened none."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    done = subprocess.run(
        [sys.executable, "-m", "dask_root_lambda.cli", "copy", f"root://127.0.0.2:{port}//{name}", tmp_path],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "check the host" in done.stderr


def test_functions_copy_what_is_far_at_both_ends(s3, folder, capsys):
    """What they did is in the report; what they cannot reach goes through this process."""
    copy(capsys, folder, f"s3://{BUCKET}/in/")
    status, done, _ = copy(
        capsys, "--execution", "emulated", "--at-once", 2,
        f"s3://{BUCKET}/in/", folder / "run 1" / "a+b.root", f"s3://{BUCKET}/out/",
    )  # fmt: skip
    assert (status, len(done["copied"]), done["report"]["total"]["invocations"]) == (0, 3, 2)
    assert content(s3, "out/run 1/a+b.root") == (folder / "run 1" / "a+b.root").read_bytes()


_MEASURE = """
import resource, sys
from dask_root_lambda import cli
cli.main(["copy", sys.argv[1], sys.argv[2] + "first"])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert cli.main(["copy", sys.argv[3], sys.argv[2] + "second"]) == 0
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_is_flat(s3, folder, tmp_path):
    """A file of 200 MB takes less than 100 MB more memory than one of three bytes."""
    large = tmp_path / "large.bin"
    large.write_bytes(bytes(1 << 20) * 200)
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, folder / "small.txt", f"s3://{BUCKET}/", large],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert int(done.stdout.splitlines()[-1]) < 100 * 1024


def test_ctrl_c_leaves_nothing_and_the_next_copy_goes_on(s3, folder, capsys, monkeypatch):
    """What was complete stays; of what was under way nothing does."""
    read, begun = sources._pread, threading.Event()

    def slow(number, size, offset):
        if offset:
            begun.set()
            time.sleep(0.5)
        return read(number, size, offset)

    monkeypatch.setattr(sources, "_pread", slow)

    def interrupt():
        begun.wait(30)
        deadline = time.monotonic() + 30
        while keys(s3) != ["small.txt"] and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    assert cli.main(["copy", "--json", str(folder), f"s3://{BUCKET}/"]) == 130
    assert not s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads")
    monkeypatch.setattr(sources, "_pread", read)
    capsys.readouterr()
    done = copy(capsys, folder, f"s3://{BUCKET}/")[1]
    assert (len(done["copied"]), len(done["skipped"])) == (1, 1)


_COPY = """
import sys
from dask_root_lambda import cli
from dask_root_lambda.copying import large
large._WHOLE_BYTES = int(sys.argv[1])
sys.exit(cli.main(["copy", *sys.argv[2:]]))
"""


def interrupt(link, endpoint, source, target, large_bytes=1 << 30):
    """Interrupt a copy over a slow link, as soon as it is under way; it ends within 3 s."""
    with scripts.running(_COPY, large_bytes, source, target, env={"AWS_ENDPOINT_URL": endpoint}) as script:
        script.wait_until(lambda: link.passed > 500_000)
        began_s = time.monotonic()
        script.send(signal.SIGINT)
        status, said = script.end()
        took_s = time.monotonic() - began_s
        print(took_s, said)
        assert status == 130
        assert took_s < scripts.limit_s(3.0)


@pytest.mark.parametrize(("large_bytes", "kept"), [(1 << 20, 1), (1 << 30, 0)])
def test_ctrl_c_does_not_wait_for_what_is_sent_slowly(user, s3, tmp_path, large_bytes, kept):
    """It is cut off; of a large file the parts before are kept, of others nothing is."""
    (tmp_path / "file").write_bytes(os.urandom(20 << 20))
    with slow_link.to(user, up=200_000) as link:
        interrupt(link, link.url, tmp_path / "file", f"s3://{BUCKET}/slow", large_bytes)
    uploads = s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
    assert len(uploads) == kept
    for upload in uploads:
        s3.abort_multipart_upload(Bucket=BUCKET, Key=upload["Key"], UploadId=upload["UploadId"])


@contextmanager
def far_file(kind, content, user):
    """A file at a place; the place's URL, and what leads from there to the file."""
    if kind == "s3":
        boto3.client("s3", endpoint_url=user).put_object(Bucket=BUCKET, Key="far", Body=content)
        yield user, None
    elif kind == "http":
        with web.serving() as server:
            server.files["/far"] = content
            yield server.url, "/far"
    else:
        with xrootd.serving() as (data, url):
            (data / "far").write_bytes(content)
            (data / "far").chmod(0o644)
            yield url, "//far"


@pytest.mark.parametrize("kind", ["s3", "http", "root"])
def test_ctrl_c_does_not_wait_for_what_comes_slowly(user, s3, tmp_path, kind):
    """What comes over a slow link is read in small pieces; nothing of it stays."""
    content, target = os.urandom(20 << 20), tmp_path / "to" / "far"
    with far_file(kind, content, user) as (url, path), slow_link.to(url, down=200_000) as link:
        if path is None:
            interrupt(link, link.url, f"s3://{BUCKET}/far", target)
        else:
            interrupt(link, user, f"{link.url}{path}", target)
    assert not list(target.parent.iterdir())
