"""Names of objects in S3 as users write them, in the S3 that is configured."""

from __future__ import annotations

import functools
from collections.abc import Callable

from dask_root_lambda.config import Settings
from dask_root_lambda.protocol.errors import ConfigurationError
from lambda_runtime.remote import access, names
from lambda_runtime.remote.names import Place, S3Name


def read(text: str) -> S3Name:
    """Read a user's name of an object.

    Raises
    ------
    ConfigurationError
        The SDK's configuration does not say which S3 that is.
    """
    return reader()(text)


def reader() -> Callable[[str], S3Name]:
    """Return what reads names as `read` does, many of them by the configuration of this moment."""
    settings = Settings.resolve()

    @functools.cache
    def place(bucket: str) -> Place:
        return access.place(
            settings.profile,
            settings.s3_endpoint_url or settings.endpoint_url,
            bucket in settings.s3_requester_pays,
        )

    def read_name(text: str) -> S3Name:
        try:
            name = names.parse_s3(text, place(text.removeprefix("s3://").partition("/")[0]))
        except Exception as error:  # botocore makes its error classes at run time
            raise ConfigurationError(f"cannot find out where {text} is: {error}") from error
        assert name is not None, "it begins as names of S3 do"
        return name

    return read_name
