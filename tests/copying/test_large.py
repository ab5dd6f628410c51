"""Large files, which several workers send to S3 in the parts of one upload."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
import zlib

import boto3
import pytest
import urllib3
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ReadTimeoutError
from hypothesis import given
from hypothesis import strategies as st

from dask_root_lambda import cli, state_home
from dask_root_lambda.copying import large, unfinished
from dask_root_lambda.protocol.errors import UnavailableInputError
from lambda_runtime.copying import buckets, checksums, pieces, sources, stream, uploads
from lambda_runtime.copying.content import Content
from lambda_runtime.copying.uploads import Part, Upload
from lambda_runtime.remote import access
from lambda_runtime.remote.names import Place, S3Name
from tests import web, xrootd

BUCKET = "large-copies"
PART = 8 << 20
SIZE = 5 * PART + 4321
PARTS = 6


@pytest.fixture
def s3(user, monkeypatch):
    """A bucket, and files that are large from two parts on, of which a worker is given two."""
    monkeypatch.setattr(large, "_WHOLE_BYTES", PART)
    monkeypatch.setattr(large, "_PIECE_BYTES", 2 * PART)
    monkeypatch.setattr(large, "_COPIED_PART_BYTES", PART)
    monkeypatch.setattr(stream, "_DELAYS_S", (0, 0, 0))
    client = boto3.client("s3", endpoint_url=user)
    client.create_bucket(Bucket=BUCKET)
    yield client
    for upload in client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", []):
        client.abort_multipart_upload(Bucket=BUCKET, Key=upload["Key"], UploadId=upload["UploadId"])
    for item in client.list_objects_v2(Bucket=BUCKET).get("Contents", []):
        client.delete_object(Bucket=BUCKET, Key=item["Key"])


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "large.root"
    path.write_bytes(os.urandom(SIZE))
    return path


@pytest.fixture
def sent(monkeypatch):
    """Numbers of the parts that are sent, in this process."""
    numbers, send = [], uploads.send

    def note(upload, number, block, watch):
        part = send(upload, number, block, watch)
        numbers.append(number)
        return part

    monkeypatch.setattr(uploads, "send", note)
    return numbers


def copy(capsys, *arguments):
    """Run the command; return its status, its document, and what it said beside."""
    status = cli.main(["copy", "--json", *map(str, arguments)])
    said = capsys.readouterr()
    return status, json.loads(said.out) if said.out else None, said.err


def content(s3, key):
    return s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()


def under_way(s3):
    return [upload["Key"] for upload in s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])]


def crc32(s3, key):
    found = s3.head_object(Bucket=BUCKET, Key=key, ChecksumMode="ENABLED")
    return found["ChecksumCRC32"], found["ChecksumType"]


@given(st.lists(st.binary(max_size=50)))
def test_checksums_of_parts_make_that_of_the_whole(parts):
    """As zlib computes it of all bytes."""
    joined = checksums.joined((zlib.crc32(part), len(part)) for part in parts)
    assert joined == zlib.crc32(b"".join(parts))


def test_parts_of_the_largest_object_are_no_more_than_s3_takes(s3):
    """5 TB would be 600,000 parts of the usual size."""
    name = S3Name(BUCKET, "huge", Place(s3.meta.endpoint_url))
    upload = uploads.begin(name, Content("/huge", 5 << 40, "1"), PART)
    assert len(upload.numbers) <= 10_000
    assert sum(upload.span(number)[1] for number in upload.numbers) == 5 << 40


def test_a_large_file_up(s3, file, sent, capsys):
    """Every part is sent once, by several workers; S3's checksum is that of the whole."""
    status, done, _ = copy(capsys, file, f"s3://{BUCKET}/")
    assert (status, len(done["copied"]), sorted(sent)) == (0, 1, list(range(1, PARTS + 1)))
    assert content(s3, file.name) == file.read_bytes()
    assert crc32(s3, file.name)[1] == "FULL_OBJECT"
    assert under_way(s3) == []
    assert copy(capsys, file, f"s3://{BUCKET}/")[1]["copied"] == []


def test_functions_send_the_parts_of_one_file(s3, capsys):
    """A file on a web server and one over XRootD go through several functions each."""
    bytes_ = os.urandom(SIZE)
    with web.serving() as server, xrootd.serving() as (data, url):
        server.files["/a.bin"] = bytes_
        (data / "b.bin").write_bytes(bytes_)
        (data / "b.bin").chmod(0o644)
        status, done, said = copy(
            capsys, "--execution", "emulated", "--at-once", 2,
            f"{server.url}/a.bin", f"{url}/b.bin", f"s3://{BUCKET}/",
        )  # fmt: skip
        assert (status, done["report"]["total"]["invocations"]) == (0, 6), said
    assert content(s3, "a.bin") == content(s3, "b.bin") == bytes_
    assert under_way(s3) == []


def test_s3_copies_what_it_has(s3, file, sent, capsys):
    """From one object to another no byte comes here."""
    copy(capsys, file, f"s3://{BUCKET}/in/")
    del sent[:]
    status, done, _ = copy(capsys, f"s3://{BUCKET}/in/large.root", f"s3://{BUCKET}/out.root")
    assert (status, len(done["copied"]), sent) == (0, 1, [])
    assert content(s3, "out.root") == file.read_bytes()
    assert crc32(s3, "out.root") == crc32(s3, "in/large.root")


@pytest.mark.parametrize("size", [SIZE, 100])
def test_what_s3_does_not_copy_is_read_and_sent(s3, tmp_path, capsys, monkeypatch, size):
    """Large or small: an S3 may not copy, or not as who reads a public object."""
    path = tmp_path / "x"
    path.write_bytes(os.urandom(size))
    copy(capsys, path, f"s3://{BUCKET}/in/")
    monkeypatch.setattr(uploads, "copy", lambda *_: None)
    monkeypatch.setattr("lambda_runtime.copying.buckets.duplicate", lambda *_: False)
    assert copy(capsys, f"s3://{BUCKET}/in/x", f"s3://{BUCKET}/out")[0] == 0
    assert content(s3, "out") == path.read_bytes()


def test_what_comes_slowly_is_given_back(s3, file, sent, capsys, monkeypatch):
    """A worker whose time is over gives back what it has not begun, and another sends that."""
    monkeypatch.setattr(pieces, "_LONGEST_S", 0.0)
    monkeypatch.setattr(pieces, "_AT_ONCE", 1)
    assert copy(capsys, file, f"s3://{BUCKET}/")[0] == 0
    assert sorted(sent) == list(range(1, PARTS + 1))
    assert content(s3, file.name) == file.read_bytes()


_STOPPED_HALF_WAY = """
import sys, time
from dask_root_lambda import cli
from dask_root_lambda.copying import large, run
from lambda_runtime.copying import sources
large._WHOLE_BYTES, large._PIECE_BYTES = {part}, 2 * {part}
read, crews = sources._pread, []

class Crew(run._Crew):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        crews.append(self)

def wait(number, size, offset):
    deadline = time.monotonic() + 60
    while offset >= 4 * {part} and not crews[0]._stopped.is_set() and time.monotonic() < deadline:
        time.sleep(0.01)
    return read(number, size, offset)

run._Crew, sources._pread = Crew, wait
sys.exit(cli.main(["copy", *sys.argv[1:]]))
"""


def remembered():
    """Return the files of what is unfinished."""
    return list((state_home.home() / "copies").glob("*"))


def stop_half_way(number, file, target):
    """Copy in a process that ends by a signal when four parts of six are remembered; return what it said."""
    command = [sys.executable, "-W", "ignore", "-c", _STOPPED_HALF_WAY.format(part=PART), file, target]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        deadline = time.monotonic() + 60
        while not any(path.read_text().count("],[") == 2 for path in remembered()):
            assert process.poll() is None, process.stdout.read()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(number)
        return process.communicate(timeout=60)[0]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_copy_goes_on(s3, file, sent, capsys, number):
    """However the process ended: what the workers sent is not sent again, and nothing is left."""
    said = stop_half_way(number, file, f"s3://{BUCKET}/")
    assert (b"S3 keeps the parts" in said) == (number == signal.SIGINT)
    assert under_way(s3) == [file.name]
    assert copy(capsys, file, f"s3://{BUCKET}/")[0] == 0
    assert sorted(sent) == [5, 6]
    assert content(s3, file.name) == file.read_bytes()
    assert (under_way(s3), remembered()) == ([], [])


def test_a_source_that_changed_since_is_copied_anew(s3, file, sent, capsys):
    """Parts of the old content are removed."""
    stop_half_way(signal.SIGKILL, file, f"s3://{BUCKET}/")
    file.write_bytes(os.urandom(SIZE))
    assert copy(capsys, file, f"s3://{BUCKET}/")[0] == 0
    assert sorted(sent) == list(range(1, PARTS + 1))
    assert content(s3, file.name) == file.read_bytes()
    assert (under_way(s3), remembered()) == ([], [])


def test_parts_that_are_gone_are_sent_again(s3, file, sent, capsys):
    """A rule of the bucket may end an upload that nobody completes."""
    stop_half_way(signal.SIGKILL, file, f"s3://{BUCKET}/")
    (upload,) = s3.list_multipart_uploads(Bucket=BUCKET)["Uploads"]
    s3.abort_multipart_upload(Bucket=BUCKET, Key=upload["Key"], UploadId=upload["UploadId"])
    assert copy(capsys, file, f"s3://{BUCKET}/")[0] == 0
    assert sorted(sent) == list(range(1, PARTS + 1))
    assert content(s3, file.name) == file.read_bytes()


def test_an_interrupted_copy_can_be_abandoned(s3, file, capsys):
    """Its parts are removed, once."""
    stop_half_way(signal.SIGKILL, file, f"s3://{BUCKET}/")
    for expected in (1, 0):
        status, done, _ = copy(capsys, "--abandon", file, f"s3://{BUCKET}/")
        assert (status, len(done["abandoned"])) == (0, expected)
        assert (under_way(s3), remembered()) == ([], [])


@pytest.mark.parametrize("damage", [b"", b"no JSON", b'{"format":1}\n', b"[1, 2]\n"])
def test_a_damaged_record_is_as_none(s3, damage):
    """The file is copied from its begin."""
    name = S3Name(BUCKET, "k", Place(s3.meta.endpoint_url))
    with unfinished.held(name) as record:
        record.begin(Content("/x", SIZE, "1"), Upload(name, "id", SIZE, PART))
    (path,) = remembered()
    path.write_bytes(damage)
    with unfinished.held(name) as record:
        assert (record.upload, record.parts) == (None, {})


def test_a_line_that_was_cut_off_costs_its_parts(s3):
    """What was written before and behind it counts."""
    name = S3Name(BUCKET, "k", Place(s3.meta.endpoint_url))
    with unfinished.held(name) as record:
        record.begin(Content("/x", SIZE, "1"), Upload(name, "id", SIZE, PART))
        record.add([Part(1, "a", 7)])
    (path,) = remembered()
    path.write_text(f'{path.read_text()}[[2,"b')
    with unfinished.held(name) as record:
        record.add([Part(3, "c", None)])
    with unfinished.held(name) as record:
        assert record.parts == {1: Part(1, "a", 7), 3: Part(3, "c", None)}


def test_of_two_that_copy_there_one_remembers(s3, file):
    """The other has an upload of its own, which nobody goes on with."""
    name = S3Name(BUCKET, "k", Place(s3.meta.endpoint_url))
    upload = Upload(name, "first", SIZE, PART)
    with unfinished.held(name) as first, unfinished.held(name) as second:
        first.begin(Content("/x", SIZE, "1"), upload)
        second.begin(Content("/x", SIZE, "1"), Upload(name, "second", SIZE, PART))
        first.add([Part(1, "tag", 7)])
    with unfinished.held(name) as third:
        assert (third.upload, third.parts) == (upload, {1: Part(1, "tag", 7)})


def test_nothing_is_left_of_a_copy_that_failed_for_good(s3, file, capsys, monkeypatch):
    """No part, though other workers send some meanwhile; the error tells what failed."""
    read = sources._pread
    monkeypatch.setattr(sources, "_pread", lambda n, size, at: b"" if at == 3 * PART else read(n, size, at))
    status, _, said = copy(capsys, file, f"s3://{BUCKET}/")
    assert status == 1
    assert "became shorter while it was copied" in said
    assert (under_way(s3), remembered()) == ([], [])


def test_what_passes_is_gone_on_with(s3, file, sent, capsys, monkeypatch):
    """A storage that is down does not cost what was sent before."""
    note = uploads.send

    def fail(upload, number, block, watch):
        if number == PARTS:
            raise UnavailableInputError("S3 is busy")
        return note(upload, number, block, watch)

    monkeypatch.setattr(uploads, "send", fail)
    status, _, said = copy(capsys, file, f"s3://{BUCKET}/")
    assert (status, "S3 is busy" in said) == (1, True)
    monkeypatch.setattr(uploads, "send", note)
    del sent[:]
    assert copy(capsys, file, f"s3://{BUCKET}/")[0] == 0
    assert sorted(sent) == [5, 6]
    assert content(s3, file.name) == file.read_bytes()


def test_what_cannot_be_remembered_is_removed(s3, file, capsys, monkeypatch):
    """Nobody would go on with it, and S3 would bill it."""
    state_home.home().mkdir(parents=True)
    (state_home.home() / "copies").touch()
    send = uploads.send

    def fail(upload, number, block, watch):
        if number == PARTS:
            raise UnavailableInputError("S3 is busy")
        return send(upload, number, block, watch)

    monkeypatch.setattr(uploads, "send", fail)
    assert copy(capsys, file, f"s3://{BUCKET}/")[0] == 1
    assert under_way(s3) == []


def test_an_answer_that_is_lost_costs_nothing(s3, file, capsys, monkeypatch):
    """S3 has made the object, and the connection breaks before it says so."""
    client_of = uploads._client

    class Client:
        def __init__(self, client):
            self._client = client

        def __getattr__(self, name):
            return getattr(self._client, name)

        def complete_multipart_upload(self, **asked):
            self._client.complete_multipart_upload(**asked)
            raise ReadTimeoutError(endpoint_url="s3")

    monkeypatch.setattr(uploads, "_client", lambda name: Client(client_of(name)))
    assert copy(capsys, file, f"s3://{BUCKET}/")[0] == 0
    assert content(s3, file.name) == file.read_bytes()


def test_a_source_that_is_replaced_meanwhile(s3, file, capsys, monkeypatch):
    """A mixture of two versions is never complete."""
    read = sources._pread

    def change(number, size, offset):
        os.utime(file, ns=(offset, offset))
        return read(number, size, offset)

    monkeypatch.setattr(sources, "_pread", change)
    status, _, said = copy(capsys, file, f"s3://{BUCKET}/")
    assert (status, "was replaced while it was copied" in said) == (1, True)
    assert (under_way(s3), s3.list_objects_v2(Bucket=BUCKET)["KeyCount"]) == ([], 0)


def test_a_wrong_byte_is_found(s3, file, capsys, monkeypatch):
    """Parts are compared with the checksum that S3 has of the source."""
    copy(capsys, file, f"s3://{BUCKET}/in/")
    monkeypatch.setattr(uploads, "copy", lambda *_: None)
    read = buckets.read

    def damage(content, name, offset, size):
        block = read(content, name, offset, size)
        return block if offset else bytes(1) + block[1:]

    monkeypatch.setattr(buckets, "read", damage)
    status, _, said = copy(capsys, f"s3://{BUCKET}/in/large.root", f"s3://{BUCKET}/out")
    assert (status, "another checksum" in said) == (1, True)
    assert under_way(s3) == []


def test_a_part_that_is_asked_for_again_is_sent_whole(s3, file, capsys):
    """S3 may refuse a request in the middle of its body."""
    name, refused = S3Name(BUCKET, "k", Place(s3.meta.endpoint_url)), []
    events = access.signer(name.place).client(BUCKET, writes=True).meta.events

    def refuse(request, **_):
        if refused:
            return None
        refused.append(request.body.read(1000))
        return AWSResponse(request.url, 503, {}, urllib3.HTTPResponse(io.BytesIO(), preload_content=False))

    events.register("before-send.s3.UploadPart", refuse)
    try:
        upload = uploads.begin(name, Content("/x", PART, "1"), PART)
        block = file.read_bytes()[:PART]
        part = uploads.send(upload, 1, block, lambda _: None)
    finally:
        events.unregister("before-send.s3.UploadPart", refuse)
    assert refused == [block[:1000]]
    assert part.crc32 == zlib.crc32(block)
    (sent,) = s3.list_parts(Bucket=BUCKET, Key="k", UploadId=upload.upload_id)["Parts"]
    assert sent["Size"] == PART
