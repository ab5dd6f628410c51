"""The code of functions that are not container images: zip archives, unpacked once each."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dask_root_lambda.emulator.errors import InvalidParameterError
from dask_root_lambda.emulator.images import ContainerImage, ImageError

# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html: 250 MB, unzipped.
UNZIPPED_LIMIT_BYTES = 262_144_000

# Damaged, encrypted, or of a method that there is no code for here.
_BAD_ARCHIVE = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError)


@dataclass(frozen=True)
class Package:
    """Code of a function."""

    sha256: str
    """As AWS writes it: base64 for archives, hexadecimal for images."""
    size_bytes: int = 0
    """Of the archive; 0 for images."""
    image_uri: str = ""
    """Of images."""
    directory: str = ""
    """Where an archive was unpacked."""
    container: ContainerImage | None = None
    """Of images that are run as containers."""


class PackageStore:
    """Unpacks archives, each once.

    Parameters
    ----------
    root
        Directory for the unpacked code.
    fetch
        Returns an object of S3, from its bucket and key.
    find
        Finds the container image that an image's URI stands for; None if it stands for something else.
    """

    def __init__(
        self,
        root: Path,
        fetch: Callable[[str, str], bytes],
        find: Callable[[str], ContainerImage | None] = lambda _: None,
    ) -> None:
        self._root = root
        self._fetch = fetch
        self._find = find

    def read(self, code: Mapping[str, Any], package_type: str) -> Package:
        """Read the parameter Code of CreateFunction, or those of UpdateFunctionCode.

        Raises
        ------
        InvalidParameterError
            If there is no code of that type in it, or it is not a zip archive.
        """
        if package_type == "Image":
            uri = str(code.get("ImageUri") or "")
            if not uri:
                raise InvalidParameterError(
                    "Please provide ImageUri when updating a function with Image packageType."
                )
            return self._image(uri)
        return self._unpack(self._archive(code))

    def _image(self, uri: str) -> Package:
        try:
            container = self._find(uri)
        except ImageError as error:
            raise InvalidParameterError(str(error)) from None
        identity = container.identity if container else hashlib.sha256(uri.encode()).hexdigest()
        return Package(identity, image_uri=uri, container=container)

    def _archive(self, code: Mapping[str, Any]) -> bytes:
        if code.get("ZipFile"):
            try:
                return base64.b64decode(code["ZipFile"], validate=True)
            except binascii.Error:
                raise InvalidParameterError("Could not unzip uploaded file. ZipFile is not base64.") from None
        if code.get("S3Bucket"):
            return self._fetch(str(code["S3Bucket"]), str(code["S3Key"]))
        raise InvalidParameterError("Please provide a source for function code.")

    def _unpack(self, archive: bytes) -> Package:
        digest = hashlib.sha256(archive)
        directory = self._root / digest.hexdigest()
        if not directory.exists():
            self._root.mkdir(parents=True, exist_ok=True)
            # Beside its place first: what breaks off in the middle is not taken for the whole later.
            beside = Path(tempfile.mkdtemp(dir=self._root))
            try:
                _extract(archive, beside)
                beside.rename(directory)
            except _BAD_ARCHIVE:
                raise InvalidParameterError(
                    "Could not unzip uploaded file. Please check your file, then try to upload again."
                ) from None
            finally:
                shutil.rmtree(beside, ignore_errors=True)
        return Package(base64.b64encode(digest.digest()).decode(), len(archive), directory=str(directory))


def _extract(archive: bytes, directory: Path) -> None:
    """Unpack an archive, with the modes that its files had on Unix."""
    directory.chmod(0o755)
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        _check_size(opened)
        for entry in opened.infolist():
            path = Path(opened.extract(entry, directory))
            mode = (entry.external_attr >> 16) & 0o777
            if mode:
                # Whoever unpacks must also be able to remove it.
                path.chmod(mode | (0o700 if entry.is_dir() else 0o400))


def _check_size(archive: zipfile.ZipFile) -> None:
    size = sum(entry.file_size for entry in archive.infolist())
    if size > UNZIPPED_LIMIT_BYTES:
        raise InvalidParameterError(
            f"Unzipped size must be smaller than {UNZIPPED_LIMIT_BYTES} bytes; this is {size} bytes."
        )
