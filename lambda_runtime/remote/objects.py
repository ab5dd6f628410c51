"""Looking at objects, and letting ROOT open them."""

from __future__ import annotations

import email.utils
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from dask_root_lambda.protocol import rootfile
from dask_root_lambda.protocol.errors import DaskRootLambdaError, InputError, UnavailableInputError
from dask_root_lambda.protocol.rootfile import FileIdentity
from lambda_runtime.once import once
from lambda_runtime.remote import access, names
from lambda_runtime.remote import library as libraries
from lambda_runtime.remote.names import S3Name

_HEAD_BYTES = 4096
"""What is read to look at an object: ROOT reads the first 300 bytes of it, and the rest costs nothing."""
_REDIRECTIONS = 3
_MOVED = (301, 307, 400)
"""Statuses of S3 with which it names the region of a bucket."""
_GONE = ("HTTP 404", "HTTP 410")

_ADVICE: tuple[tuple[str, str], ...] = (
    ("NoSuchBucket", "there is no such bucket: check its name and the endpoint"),
    ("ExpiredToken", "the credentials have expired: renew them, for instance with 'aws sso login'"),
    ("TokenRefreshRequired", "the credentials have expired: renew them, for instance with 'aws sso login'"),
    ("InvalidAccessKeyId", "this S3 does not know the credentials: check the profile and the endpoint"),
    ("SignatureDoesNotMatch", "the secret key is wrong: check the profile and the endpoint"),
    ("RequestTimeTooSkewed", "this machine's clock is wrong: set it"),
    ("InvalidObjectState", "it is in an archive (Glacier): restore it first"),
    (
        "SSL certificate",
        "the certificate is of no authority that is known here: name a file with those that you trust "
        "with AWS_CA_BUNDLE. Functions on AWS know those of their image",
    ),
    ("HTTP 401", "the server wants credentials, which cannot be given: copy the file to S3"),
    (
        "HTTP 403",
        "access is denied: the credentials need s3:GetObject on it, and s3:ListBucket to tell what is "
        "missing. Functions have the deployment's role: name the bucket with "
        "'dask-root-lambda deploy --input-bucket'",
    ),
    ("HTTP 404", "there is no such object: check the name"),
    ("HTTP 30", "the server sends to another place, which does not answer: name that"),
)
"""What an answer holds -> what to do; the first that fits."""


@dataclass(frozen=True)
class Seen:
    """An object, as the server describes it."""

    size: int
    tag: str
    """Its ETag with quotes, where it is a strong one; empty without."""
    mtime_ns: int
    """Time of the last change, ns since the epoch, in whole seconds; 0 where the server does not say."""
    head: bytes
    """Its first bytes."""


def identify(url: str) -> FileIdentity:
    """Read what identifies the content of an object, and let ROOT open it under this name.

    Raises
    ------
    InputError
        Missing, out of reach, or not a ROOT file.
    """
    seen = _looked_at(url, None)
    return replace(_identity(url, seen), mtime_ns=seen.mtime_ns)


def look(url: str) -> Seen:
    """Look at a file on a web server, of whatever kind.

    Raises
    ------
    InputError
        Missing, or out of reach.
    """
    return _look(url, None)[0]


def part(url: str, tag: str, offset: int, size: int) -> bytes:
    """Read a part of a file on a web server.

    Parameters
    ----------
    url
        The file.
    tag
        ETag that it has to have, with quotes; empty without.
    offset
        Where the part begins, from 0.
    size
        Bytes to read.

    Raises
    ------
    InputError
        Out of reach, or replaced.
    """
    _library()
    answer = libraries.look(url, names.source(url), url, (), tag, offset, size)
    problem = str(answer.fProblem)
    if problem:
        raise _changed(url, problem, passes=bool(answer.fPasses))
    return bytes(answer.fBody)


def compare(url: str, expected: FileIdentity) -> FileIdentity | None:
    """Return None if an object is the one that the client saw, else what identifies the one that is there.

    Raises
    ------
    InputError
        Missing, out of reach, replaced, or not a ROOT file.
    """
    found = _identity(url, _looked_at(url, expected.version))
    return None if found == replace(expected, mtime_ns=0) else found


@contextmanager
def reading(files: Sequence[tuple[str, FileIdentity]]) -> Iterator[None]:
    """Read objects in the block: that it could not read them, or that one was replaced, is raised.

    Parameters
    ----------
    files
        Those that are read, as the client saw them.
    """
    far = [(url, identity) for url, identity in files if names.is_remote(url)]
    if not far:
        yield
        return
    for url, identity in far:
        if not _holds(url, identity) and compare(url, identity) is not None:
            raise _replaced(url)
    try:
        with told([url for url, _ in far]):
            yield
    finally:
        # Another range of this process may have been told of a new object: ROOT may have opened that.
        for url, identity in far:
            if not _holds(url, identity):
                raise _replaced(url)


@contextmanager
def told(urls: Sequence[str]) -> Iterator[None]:
    """Raise that objects could not be read in the block, whatever ROOT made of that.

    Parameters
    ----------
    urls
        The objects.
    """
    if not urls:
        yield
        return
    library = _library()
    before = library.Failures()
    try:
        yield
    finally:
        failed = library.FailedSince(before, urls)
        if failed.fNumber:
            raise _changed(str(failed.fName), str(failed.fText), passes=bool(failed.fPasses)) from None


def prepare() -> None:
    """Let ROOT open names of objects in this process, such as ``ROOT.TFile.Open("s3://bucket/key")``."""
    _library()


def opening_parts(url: str) -> list[tuple[int, bytes]]:
    """Return what ROOT read of an object that it opened: offsets and contents; nothing if that was much."""
    return [(int(part.fOffset), bytes(part.fBytes)) for part in _library().Opening(url)]


@once
def _library() -> Any:
    library = libraries.library()
    libraries.call(_resolve, _renew)
    return library


def _holds(url: str, identity: FileIdentity) -> bool:
    return bool(_library().Holds(url, identity.version, identity.size))


def _looked_at(url: str, tag: str | None) -> Seen:
    """Look at an object, and let ROOT open it.

    Parameters
    ----------
    url
        The object.
    tag
        ETag that it has to have, with quotes; empty where it had none; None where nobody saw it before.
    """
    seen, signed = _look(url, tag)
    library = _library()
    library.Hold(
        url, names.shown(url), names.source(url), signed.url, list(signed.headers), seen.tag, seen.size
    )
    library.KeepHead(url, seen.head)
    return seen


def _look(url: str, tag: str | None) -> tuple[Seen, access.Signed]:
    """Look at an object; return what is there, and how it was asked for."""
    name = names.parse_s3(url)
    if name is None:
        plain = access.Signed(url)
        return _seen(url, _asked(url, plain, tag), tag), plain
    signer = access.signer(name.place)
    answer, signed = None, signer.sign(name)
    for _ in range(_REDIRECTIONS):
        answer = _asked(url, signed, tag)
        region = _region(answer) if answer.fStatus in _MOVED else ""
        if not region or not signer.move(name.bucket, region):
            break
        signed = signer.sign(name)
    assert answer is not None
    if answer.fStatus == 403 and "AccessDenied" in str(answer.fProblem) and not signer.is_public(name.bucket):
        answer = _without_signature(url, name, tag) or answer
        signed = signer.sign(name)
    return _seen(url, answer, tag), signed


def _without_signature(url: str, name: S3Name, tag: str | None) -> Any:
    """Ask for an object that may be public: a role that may read nothing may not read that, signed."""
    signer = access.signer(name.place)
    signer.make_public(name.bucket)
    answer = _asked(url, signer.sign(name), tag)
    if answer.fStatus == 206:
        return answer
    signer.keep_private(name.bucket)
    return None


def _asked(url: str, signed: access.Signed, tag: str | None) -> Any:
    _library()
    return libraries.look(
        names.shown(url), names.source(url), signed.url, signed.headers, tag or "", 0, _HEAD_BYTES
    )


def _seen(url: str, answer: Any, expected: str | None) -> Seen:
    headers = _headers(answer)
    if answer.fStatus == 416:
        return Seen(0, "", 0, b"")
    total = re.fullmatch(r"bytes \d+-\d+/(\d+)", headers.get("content-range", ""))
    if str(answer.fProblem) or total is None:
        problem = str(answer.fProblem) or "the server does not say how long it is"
        error = _error if expected is None else _changed
        raise error(url, problem, passes=bool(answer.fPasses))
    tag = headers.get("etag", "")
    return Seen(
        size=int(total[1]),
        tag=tag if tag.startswith('"') else "",
        mtime_ns=_time_ns(headers.get("last-modified")),
        head=bytes(answer.fBody),
    )


def _time_ns(text: str | None) -> int:
    if text is None:
        return 0
    try:
        return int(email.utils.parsedate_to_datetime(text).timestamp()) * 1_000_000_000
    except ValueError:
        return 0


def _headers(answer: Any) -> dict[str, str]:
    lines = (line.partition(":") for line in str(answer.fHeaders).splitlines())
    return {name.strip().lower(): value.strip() for name, _, value in lines}


def _region(answer: Any) -> str:
    named = re.search(r"<Region>([a-z0-9-]+)</Region>", bytes(answer.fBody).decode(errors="replace"))
    return _headers(answer).get("x-amz-bucket-region") or (named[1] if named else "")


def _identity(url: str, seen: Seen) -> FileIdentity:
    known = rootfile.identify(names.shown(url), seen.head[: rootfile.HEADER_BYTES], seen.size)
    return replace(known, version=seen.tag)


def _error(url: str, problem: str, *, passes: bool) -> InputError:
    if problem.startswith("cannot "):
        # It was put into words when the object was to be opened.
        return UnavailableInputError(problem) if passes else InputError(problem)
    advice = next((advice for mark, advice in _ADVICE if mark in problem), "")
    if passes:
        text = f"cannot read {names.shown(url)}: {problem}, several times; try again later"
        return UnavailableInputError(text)
    return InputError(f"cannot read {names.shown(url)}: {problem}{f'; {advice}' if advice else ''}")


def _changed(url: str, problem: str, *, passes: bool) -> InputError:
    """Make the error of an object that was seen before."""
    if "HTTP 412" in problem:
        return _replaced(url)
    if problem.startswith(_GONE) and "NoSuchBucket" not in problem:
        return InputError(
            f"cannot read {names.shown(url)}: {problem}; it was there when the RDataFrame was made, and is "
            "gone: put it back, or make the RDataFrame again"
        )
    return _error(url, problem, passes=passes)


def _replaced(url: str) -> InputError:
    return InputError(
        f"{names.shown(url)} was replaced since the RDataFrame was made: make the RDataFrame again"
    )


def _resolve(url: str) -> bool:
    """Look at an object that ROOT is to open, and nobody has looked at."""
    try:
        name = names.parse_s3(url, None if url.startswith("https:") else access.place())
        if name is None or url.startswith("https:"):
            _looked_at(url, None)
        else:
            _looked_at_as(url, name)
    except DaskRootLambdaError as error:
        _told(url, error)
        return False
    except Exception as error:  # botocore makes its error classes at run time
        _told(url, InputError(f"cannot read {url}: {error}"))
        return False
    return True


def _looked_at_as(url: str, name: S3Name) -> None:
    """Look at an object under the name that the user has given to ROOT."""
    internal = name.internal()
    seen = _looked_at(internal, None)
    signed = access.signer(name.place).sign(name)
    _library().Hold(
        url, str(name), names.source(internal), signed.url, list(signed.headers), seen.tag, seen.size
    )
    _library().KeepHead(url, seen.head)


def _told(url: str, error: DaskRootLambdaError) -> None:
    _library().Refuse(url, error.message, error.retryable)


def _renew(url: str) -> bool:
    """Sign anew for an object that is being read: what was signed may have expired."""
    name = names.parse_s3(url, None if url.startswith("https:") else access.place())
    if name is None:
        return False
    try:
        signed = access.signer(name.place).sign(name)
    except Exception:  # botocore makes its error classes at run time; the server's refusal tells the rest
        return False
    _library().Renew(url, signed.url, list(signed.headers))
    return True
