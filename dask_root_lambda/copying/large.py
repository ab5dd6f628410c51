"""A large file to S3: one upload, whose parts several workers send, and which is completed here."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from queue import SimpleQueue

from dask_root_lambda.copying import unfinished
from dask_root_lambda.copying.unfinished import Unfinished
from dask_root_lambda.protocol.errors import DaskRootLambdaError, InputError, RunCancelledError
from lambda_runtime.copying import buckets, stream, uploads
from lambda_runtime.copying.content import Content
from lambda_runtime.copying.uploads import Part, Upload
from lambda_runtime.remote.names import S3Name

_WHOLE_BYTES = 64 << 20
"""Files up to this size are copied as a whole, by one worker."""
_PIECE_BYTES = 256 << 20
"""What a worker is given of a file."""
_COPIED_PART_BYTES = 64 << 20
"""Parts that S3 copies by itself: no process has them in its memory."""

Submit = Callable[[Content, Upload, Sequence[int]], "Future[list[Part]]"]
"""Has a worker copy parts of a file, as `lambda_runtime.copying.pieces.copy` does."""


def is_large(content: Content, name: S3Name | None) -> bool:
    """Tell whether a file is copied in parts: to S3 only, and where it is worth it."""
    return name is not None and content.size > _WHOLE_BYTES


def copy(content: Content, name: S3Name, submit: Submit, came: Callable[[int], None]) -> None:
    """Copy a file, or what an earlier copy has left of it.

    What is stopped, or fails by what may pass, is remembered, and the next copy goes on with it. Of what
    fails for good, or cannot be remembered, nothing stays.

    Parameters
    ----------
    content
        The file, as it was looked at.
    name
        The object.
    submit
        The workers.
    came
        Called with the bytes that an earlier copy has sent.

    Raises
    ------
    InputError
        The file cannot be read, or changed meanwhile; or S3 refuses.
    StoreError
        The copy is not what was sent.
    """
    with unfinished.held(name) as record:
        upload = _under_way(record, content, name)
        came(sum(upload.span(number)[1] for number in record.parts))
        pieces = _Pieces(submit, content, upload, record)
        try:
            pieces.copy()
            parts = list(record.parts.values())
            stream.check(content, uploads.crc32_of(upload, parts))
            uploads.complete(upload, parts, content)
        except (CancelledError, DaskRootLambdaError) as error:
            if not record.lasts or not _can_go_on(error):
                _end(record, pieces)
            pieces.drain()
            raise
        record.forget()


def _can_go_on(error: CancelledError | DaskRootLambdaError) -> bool:
    """Tell whether the next copy may succeed: this one was stopped, or failed by what may pass."""
    return isinstance(error, (CancelledError, RunCancelledError)) or error.retryable


def abandon(name: S3Name) -> bool:
    """End the upload to a target that an earlier copy has left; False if there is none.

    Raises
    ------
    InputError
        S3 refuses.
    """
    with unfinished.held(name) as record:
        if record.upload is None:
            return False
        uploads.abort(record.upload)
        record.forget()
        return True


def _under_way(record: Unfinished, content: Content, name: S3Name) -> Upload:
    """Return the upload of the same content that is under way still, or begin one."""
    before = record.upload
    if before is not None and record.identity == content.identity and uploads.is_there(before):
        return before
    if before is not None:
        uploads.abort(before)
    part_bytes = _COPIED_PART_BYTES if buckets.is_within(content, name) else buckets.PART_BYTES
    upload = uploads.begin(name, content, part_bytes)
    record.begin(content, upload)
    return upload


def _end(record: Unfinished, pieces: _Pieces) -> None:
    """Leave nothing: workers that send parts find no upload any more; what they sent meanwhile goes then."""
    assert record.upload is not None
    with contextlib.suppress(InputError):
        uploads.abort(record.upload)
        pieces.drain()
        uploads.abort(record.upload)
        record.forget()


class _Pieces:
    """The parts that are missing, on their way.

    Parameters
    ----------
    submit
        The workers.
    content
        The file.
    upload
        Where its parts go.
    record
        Which are there.
    """

    def __init__(self, submit: Submit, content: Content, upload: Upload, record: Unfinished) -> None:
        self._submit = submit
        self._content = content
        self._upload = upload
        self._record = record
        self._pending: dict[Future[list[Part]], Sequence[int]] = {}
        self._done: SimpleQueue[Future[list[Part]]] = SimpleQueue()

    def copy(self) -> None:
        """Have all parts copied that are missing; raise the first error."""
        for numbers in _divided(self._upload, self._record.parts):
            self._ask(numbers)
        while self._pending:
            numbers, parts = self._next()
            sent = {part.number for part in parts}
            self._ask([number for number in numbers if number not in sent])

    def drain(self) -> None:
        """Begin no more, and wait for what is under way; what it sent is remembered."""
        for future in self._pending:
            future.cancel()
        while self._pending:
            with contextlib.suppress(DaskRootLambdaError, CancelledError):
                self._next()

    def _ask(self, numbers: Sequence[int]) -> None:
        if numbers:
            future = self._submit(self._content, self._upload, numbers)
            self._pending[future] = numbers
            future.add_done_callback(self._done.put)

    def _next(self) -> tuple[Sequence[int], list[Part]]:
        future = self._done.get()
        numbers = self._pending.pop(future)
        parts = future.result()
        self._record.add(parts)
        return numbers, parts


def _divided(upload: Upload, there: dict[int, Part]) -> Iterator[Sequence[int]]:
    """Yield the numbers of parts that are missing, as many at a time as a worker is given."""
    missing = [number for number in upload.numbers if number not in there]
    step = max(1, _PIECE_BYTES // upload.part_bytes)
    for begin in range(0, len(missing), step):
        yield missing[begin : begin + step]
