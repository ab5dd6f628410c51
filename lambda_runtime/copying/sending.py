"""What is sent to S3: it can be cut off in the middle, where a link takes minutes for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager


class _CutOffError(CancelledError):
    """Ends a request: botocore passes this one class on, and does not send the request again."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class Body:
    """A block as the body of a request.

    Parameters
    ----------
    block
        What is sent.
    watch
        Called with 0 before each piece; what it raises ends the request, within `raising`.
    """

    def __init__(self, block: bytes | bytearray, watch: Callable[[int], None]) -> None:
        self._block = memoryview(block)
        self._watch = watch
        self._place = 0

    def __len__(self) -> int:
        return len(self._block)

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes."""
        ask(self._watch)
        end = len(self) if size < 0 else self._place + size
        piece = bytes(self._block[self._place : end])
        self._place += len(piece)
        return piece

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place, as `io.IOBase.seek` does."""
        self._place = offset + (0, self._place, len(self))[whence]
        return self._place

    def tell(self) -> int:
        """Return the place."""
        return self._place


def ask(watch: Callable[[int], None]) -> None:
    """Ask whether to go on, in the middle of a request."""
    try:
        watch(0)
    except Exception as error:  # whatever it raises to stop
        raise _CutOffError(error) from error


@contextmanager
def raising() -> Iterator[None]:
    """Raise what `ask` was told, in place of what ended the request."""
    try:
        yield
    except _CutOffError as cut:
        raise cut.error from None
